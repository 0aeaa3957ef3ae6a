"""A server at the service address, on one of two nodes, and the move of its sockets to the other node."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from agent.network.address import ServiceAddress
from agent.network.restored_sockets import RestoredSockets
from agent.primary.socket_holder import SocketHolder
from tests.agent.lan import ADDRESS4, ADDRESS6, Lan
from tests.agent.moved_server import Server, SocketCapture
from transport.checkpoint import Records

PORT = 7300
ADDRESSES = (ADDRESS4.ip, ADDRESS6.ip)


class Service:
    """It starts on the first node, which has the address."""

    def __init__(self, lan: Lan, stack: ExitStack) -> None:
        self.lan = lan
        self.addresses: dict[str, ServiceAddress] = {}
        for node in ("first", "second"):
            with lan.inside(node):
                service_address = ServiceAddress([str(ADDRESS4), str(ADDRESS6)], "eth0")
            self.addresses[node] = stack.enter_context(service_address)
        self.addresses["first"].claim()
        self.node = "first"
        self.server = stack.enter_context(Server(lan, "first"))
        self.records: Records = {}
        self.held: Any = None
        self._stack = stack

    @property
    def other(self) -> str:
        """The node that does not serve."""
        return "second" if self.node == "first" else "first"

    def serve(self, mode: str, **more: Any) -> None:
        """Let the server listen at both addresses."""
        listen = [(socket.AF_INET, str(ADDRESS4.ip), PORT), (socket.AF_INET6, str(ADDRESS6.ip), PORT)]
        self.server.command(serve={"mode": mode, "listen": listen, **more})

    def checkpoint(self) -> None:
        """Capture the sockets; the server goes on after it."""
        self.held = self.server.command(hold=True)
        with SocketCapture(self.server) as capture:
            self.records = capture.capture()
        self.server.command(go=True)

    def move(self, between: Callable[[], None] = lambda: None) -> None:
        """The last gasp: hold still, drop the address, read everything, end silently, go on elsewhere.

        between: called when the server is dead and not yet anywhere else.
        """
        self.held = self.server.command(hold=True)
        self.addresses[self.node].drop()
        with SocketCapture(self.server) as capture:
            self.records = capture.capture()
        holder = SocketHolder()
        holder.take(self.server.pidfd, self.records)
        self.server.kill()
        between()
        restored = self.go_on_elsewhere(exact=True)
        self.server.command(go=True)
        holder.release_silently()
        assert restored.failed == []

    def go_on_elsewhere(self, *, exact: bool) -> RestoredSockets:
        """Make the sockets of the last capture on the other node; the server there does not serve yet."""
        self.node = self.other
        self.server = self._stack.enter_context(Server(self.lan, self.node))
        self.server.command(adopt=self.held)
        restored = RestoredSockets(self.server.pidfd, exact=exact)
        restored.configure(self.records)
        self.addresses[self.node].claim()
        restored.finish()
        return restored


@contextmanager
def running_service() -> Iterator[Service]:
    """A network and a service in it."""
    with Lan() as lan, ExitStack() as stack:
        yield Service(lan, stack)


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes."""
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        assert chunk, f"the stream ended after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


def ask(connection: socket.socket, data: bytes) -> None:
    """Send something to an echo server and check the answer."""
    connection.sendall(data)
    assert receive(connection, len(data)) == data
