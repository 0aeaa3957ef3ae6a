"""Connections of a program that was killed on a node are not in its way when it comes back."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address

import pytest

from agent.kernel.nftables import BarrierSocket
from agent.kernel.sock_diag import ESTABLISHED, FIN_WAIT1, LISTEN, SocketDiagnosis
from agent.network.former_sockets import end_former_sockets
from tests.agent.lan import ADDRESS4, ADDRESS6
from tests.agent.service import ADDRESSES, PORT, Service, ask, running_service

IN_EACH_FAMILY = pytest.mark.parametrize("address", [ADDRESS4.ip, ADDRESS6.ip], ids=["IPv4", "IPv6"])
OTHER_PORT = 7301


def states(diagnosis: SocketDiagnosis, family: socket.AddressFamily) -> list[int]:
    return sorted(diagnosis.tcp(family)["state"].tolist())


@IN_EACH_FAMILY
async def test_who_was_left_is_ended_and_its_client_hears_nothing(address: IPv4Address | IPv6Address) -> None:
    family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
    with (
        running_service() as service,
        closing(_diagnosis(service)) as diagnosis,
        closing(_barrier(service)) as barrier,
        _other(service, family) as other,
    ):
        service.serve("echo")
        client, bystander = service.lan.connect(str(address), PORT), service.lan.connect(*other.getsockname()[:2])
        ask(client, b"first")
        # The program is fenced, and killed.
        barrier.barriers.stage("redis@a", address)
        barrier.barriers.put("redis@a", address)
        service.addresses["first"].drop()
        service.server.kill()
        while FIN_WAIT1 not in states(diagnosis, family):
            await asyncio.sleep(0.01)
        assert end_former_sockets(diagnosis, ADDRESSES) == 1
        # What belongs to another address is none of its business.
        assert states(diagnosis, family) == sorted([ESTABLISHED, LISTEN])
        assert end_former_sockets(diagnosis, ADDRESSES) == 0
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.close()
        bystander.close()


def _diagnosis(service: Service) -> SocketDiagnosis:
    with service.lan.inside("first"):
        return SocketDiagnosis()


def _barrier(service: Service) -> BarrierSocket:
    with service.lan.inside("first"):
        return BarrierSocket()


def _other(service: Service, family: socket.AddressFamily) -> socket.socket:
    """A socket that listens at an address of the node's own."""
    with service.lan.inside("first"):
        other = socket.create_server(
            ("10.91.0.1" if family == socket.AF_INET else "fd91::1", OTHER_PORT), family=family
        )
    return other
