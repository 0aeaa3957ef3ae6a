"""A dying program's sockets end without a word, and without the holder they do not."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from agent.context.by_kind import records_of_kind
from agent.kernel.packet import FIN, RST, SegmentTap
from agent.primary.socket_holder import SocketHolder
from tests.agent.lan import ADDRESS4, ADDRESS6
from tests.agent.moved_server import SocketCapture
from tests.agent.service import PORT, Service, ask, running_service


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as one:
        yield one


def ends(tap: SegmentTap) -> int:
    """How many FIN and RST segments have arrived."""
    return sum(1 for segment in tap.read() if segment.flags & (FIN | RST))


@pytest.mark.parametrize("held", [True, False], ids=["held", "not held"])
def test_the_end_of_a_program(service: Service, held: bool) -> None:
    """Even with the address still there, and data that was never read: what is not held answers with a reset."""
    service.serve("echo")
    connections = [service.lan.connect(str(address.ip), PORT) for address in (ADDRESS4, ADDRESS6) for _ in range(3)]
    for connection in connections:
        ask(connection, b"first")
    service.server.command(hold=True)
    connections[0].sendall(b"never read")
    # Two more connections wait to be accepted.
    connections += [service.lan.connect(str(address.ip), PORT) for address in (ADDRESS4, ADDRESS6)]
    with SocketCapture(service.server) as capture:
        records = capture.capture()
    with service.lan.inside("client"):
        tap = SegmentTap([ip_address("10.91.0.3"), ip_address("fd91::3")], "eth0", outgoing=False)
    tap.start()
    holder = SocketHolder()
    if held:
        holder.take(service.server.pidfd, records)
        assert len(holder) == len(records_of_kind(records, "tcp")) == len(connections)
    service.server.kill()
    holder.release_silently()
    # What the kernel sends at the end of a process has left when its end is reported.
    assert ends(tap) == (0 if held else len(connections))
    tap.close()
    for connection in connections:
        if held:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
        connection.close()
