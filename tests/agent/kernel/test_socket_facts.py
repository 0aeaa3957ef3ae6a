"""What a socket says of itself is what Python's own socket object says."""

from __future__ import annotations

import socket

import pytest

from agent.errors import KernelError
from agent.kernel.sock_diag import CLOSE, ESTABLISHED, LISTEN
from agent.kernel.socket_facts import tcp_facts

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@FAMILIES
def test_the_facts_of_each_state(family: socket.AddressFamily) -> None:
    with socket.socket(family) as idle, socket.create_server((LOOPBACK[family], 0), family=family, backlog=9) as server:
        assert tcp_facts(idle.fileno(), family).state == CLOSE
        facts = tcp_facts(server.fileno(), family)
        assert (facts.state, facts.backlog, facts.local_port) == (LISTEN, 9, server.getsockname()[1])
        assert (facts.peer, facts.peer_port) == (bytes(16), 0)
        with socket.create_connection(server.getsockname()[:2]) as client, server.accept()[0] as accepted:
            facts = tcp_facts(accepted.fileno(), family)
            assert facts.state == ESTABLISHED
            assert facts.local == facts.peer == socket.inet_pton(family, LOOPBACK[family]).ljust(16, b"\0")
            assert (facts.local_port, facts.peer_port) == (accepted.getsockname()[1], client.getsockname()[1])
            cookie = accepted.getsockopt(socket.SOL_SOCKET, 57, 8)
            assert (facts.cookie, facts.interface) == (int.from_bytes(cookie, "little"), 0)


def test_what_is_no_socket_is_an_error() -> None:
    with open("/dev/null", "rb") as file, pytest.raises(KernelError):
        tcp_facts(file.fileno(), socket.AF_INET)
