"""Connections move from one node to another: every byte arrives once, in order, whatever stood in the queues."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from agent.address import ServiceAddress
from agent.restored_sockets import RestoredSockets
from agent.socket_holder import SocketHolder
from tests.agent.lan import ADDRESS4, ADDRESS6, Lan
from tests.agent.moved_server import Server, SocketCapture
from tests.victims.tcp_server import pattern

PORT = 7300
ADDRESSES = (str(ADDRESS4), str(ADDRESS6))
FAMILIES = [
    pytest.param(socket.AF_INET, str(ADDRESS4.ip), id="IPv4"),
    pytest.param(socket.AF_INET6, str(ADDRESS6.ip), id="IPv6"),
]


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as one:
        yield one


class Service:
    """A server at the service address, on the first node, and its move to the second."""

    def __init__(self, lan: Lan, stack: ExitStack) -> None:
        self.lan = lan
        self.stack = stack
        self.addresses = {}
        for node in ("first", "second"):
            with lan.inside(node):
                self.addresses[node] = stack.enter_context(ServiceAddress(ADDRESSES, "eth0"))
        self.addresses["first"].claim()
        self.node = "first"
        self.server = stack.enter_context(Server(lan, "first"))
        self.restored: RestoredSockets | None = None

    def serve(self, mode: str, **more: Any) -> None:
        listen = [(socket.AF_INET, str(ADDRESS4.ip), PORT), (socket.AF_INET6, str(ADDRESS6.ip), PORT)]
        self.server.command(serve={"mode": mode, "listen": listen, **more})

    def move(self, between: Callable[[], None] = lambda: None) -> None:
        """The last gasp: hold still, drop the address, read everything, end silently, go on elsewhere."""
        held = self.server.command(hold=True)
        old, new = self.addresses[self.node], self.addresses["second" if self.node == "first" else "first"]
        old.drop()
        with SocketCapture(self.server) as capture:
            records = capture.capture()
        holder = SocketHolder()
        holder.take(self.server.pidfd, records)
        self.server.kill()
        between()
        self.node = "second" if self.node == "first" else "first"
        self.server = self.stack.enter_context(Server(self.lan, self.node))
        self.server.command(adopt=held)
        self.restored = RestoredSockets(self.server.pidfd, exact=True)
        self.restored.configure(records)
        new.claim()
        self.restored.finish()
        self.server.command(go=True)
        holder.release_silently()
        assert self.restored.failed == []


@pytest.fixture
def service(lan: Lan) -> Iterator[Service]:
    with ExitStack() as stack:
        yield Service(lan, stack)


def send_all(connections: list[socket.socket], data: bytes) -> None:
    for connection in connections:
        connection.sendall(data)


def receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        assert chunk, f"the stream ended after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_idle_and_busy_connections_go_on_through_chained_moves(service: Service, family: int, address: str) -> None:
    service.serve("echo")
    connections = [service.lan.connect(address, PORT) for _ in range(5)]
    for connection in connections:
        connection.sendall(b"first")
        assert receive(connection, 5) == b"first"
    for turn in range(4):
        # Two of them have a request in flight while the server is moved.
        service.move(partial(send_all, connections[:2], b"flight%d" % turn))
        for connection in connections[:2]:
            assert receive(connection, 7) == b"flight%d" % turn
        for connection in connections:
            connection.sendall(b"after")
            assert receive(connection, 5) == b"after"
        with service.lan.connect(address, PORT) as new:
            new.sendall(b"new")
            assert receive(new, 3) == b"new"
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_a_full_send_queue_arrives_whole(service: Service, family: int, address: str) -> None:
    size = 6 << 20
    service.serve("blast", bytes=size)
    connections = [service.lan.connect(address, PORT) for _ in range(3)]
    start = [receive(connection, 1000) for connection in connections]
    service.move()
    for connection, begun in zip(connections, start, strict=True):
        assert begun + receive(connection, size - 1000) == pattern(0, size)
        connection.sendall(b"end")
        assert receive(connection, 3) == b"end"
        connection.close()
