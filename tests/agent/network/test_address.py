"""The service address comes and goes, and the neighbours learn of it at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from agent.errors import KernelError
from agent.kernel.rtnetlink import RouteSocket
from agent.network.address import ServiceAddress
from tests.agent.lan import ADDRESS4, ADDRESS6, Lan
from transport.errors import ConfigError

BOTH = [str(ADDRESS4), str(ADDRESS6)]


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as one:
        yield one


def at(lan: Lan, node: str, addresses: list[str]) -> ServiceAddress:
    with lan.inside(node):
        return ServiceAddress(addresses, "eth0")


def test_claiming_and_dropping_twice_is_the_same_as_once(lan: Lan) -> None:
    with at(lan, "first", BOTH) as address:
        assert not address.is_here()
        assert not address.drop()
        address.claim()
        address.claim()
        assert address.is_here()
        assert address.drop()
        assert not address.drop()
        assert not address.is_here()


def test_what_comes_for_it_is_taken_as_soon_as_it_is_claimed(lan: Lan) -> None:
    """A worker of the kernel completes an IPv6 address later, and the busier the machine is, the later."""
    with at(lan, "first", BOTH) as address:
        with lan.inside("first"):
            routes = RouteSocket()
        with closing(routes):
            for _ in range(50):
                assert not any(map(routes.is_local, address.addresses))
                address.claim()
                assert all(map(routes.is_local, address.addresses))
                address.drop()


def test_without_a_prefix_length_it_is_the_host_alone(lan: Lan) -> None:
    with at(lan, "first", ["10.91.0.100", "fd91::100"]) as short, at(lan, "first", BOTH) as full:
        short.claim()
        assert full.is_here()


@pytest.mark.parametrize("target", [str(ADDRESS4.ip), str(ADDRESS6.ip)], ids=["IPv4", "IPv6"])
def test_a_client_that_knew_the_old_node_reaches_the_new_one(lan: Lan, target: str) -> None:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with ExitStack() as stack:
        addresses = {node: stack.enter_context(at(lan, node, BOTH)) for node in ("first", "second")}
        listening = {}
        for node in addresses:
            with lan.inside(node):
                one = stack.enter_context(socket.socket(family))
                one.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 7400))
                one.listen()
                listening[node] = one
        now, then = "first", "second"
        for _ in range(4):
            addresses[then].drop()
            addresses[now].claim()
            with lan.connect(target, 7400) as client:
                accepted, peer = listening[now].accept()
                accepted.close()
                assert peer[:2] == client.getsockname()[:2]
            now, then = then, now


def test_an_announcement_without_a_cable_is_not_heard(lan: Lan) -> None:
    with at(lan, "first", BOTH) as address:
        lan.set_cable("first", plugged=False)
        address.claim()
        assert address.is_here()
        lan.set_cable("first", plugged=True)
        assert address.announce()


def test_on_a_link_without_neighbours_nothing_is_announced(lan: Lan) -> None:
    with lan.inside("first"):
        address = ServiceAddress(BOTH, "lo")
    with address:
        address.claim()
        assert address.announce()
        assert address.drop()


def test_what_is_wrong_is_named(lan: Lan) -> None:
    with pytest.raises(ConfigError, match=r"10\.0\.0\.256"):
        at(lan, "first", ["10.0.0.256/32"])
    with lan.inside("first"), pytest.raises(KernelError, match="interface eth7"):
        ServiceAddress(BOTH, "eth7")
