"""Segments are seen as they pass, read right, and made so that a kernel takes them."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from agent.kernel.packet import ACK, FIN, RST, SYN, Segment, SegmentSender, SegmentTap, parse_segment
from tests.agent.lan import Lan

FAMILIES = pytest.mark.parametrize(
    ("server", "client"), [("10.91.0.1", "10.91.0.3"), ("fd91::1", "fd91::3")], ids=["IPv4", "IPv6"]
)
PORT = 7500


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as lan:
        yield lan


def listen(lan: Lan, address: str) -> socket.socket:
    with lan.inside("first"):
        listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listening.bind((address, PORT))
    listening.listen()
    return listening


def tap(lan: Lan, node: str, address: str, *, outgoing: bool) -> SegmentTap:
    with lan.inside(node):
        one = SegmentTap(
            [ip_address("10.9.9.9"), ip_address("fd99::9"), ip_address(address)], "eth0", outgoing=outgoing
        )
    one.start()
    return one


def read(one: SegmentTap, count: int) -> list[Segment]:
    segments: list[Segment] = []
    while len(segments) < count:
        assert select.select([one], [], [], 10)[0]
        segments += one.read()
    return segments


@FAMILIES
def test_departures_are_only_beginnings_and_ends(lan: Lan, server: str, client: str) -> None:
    listening = listen(lan, server)
    departures = tap(lan, "first", server, outgoing=True)
    connection = lan.connect(server, PORT)
    accepted, _ = listening.accept()
    accepted.sendall(b"data")
    assert connection.recv(4) == b"data"
    accepted.close()
    first, last = read(departures, 2)
    assert (first.flags, last.flags & FIN) == (SYN | ACK, FIN)
    for segment in (first, last):
        assert (str(segment.source), segment.source_port) == (server, PORT)
        assert (str(segment.destination), segment.destination_port) == connection.getsockname()[:2]
        assert segment.outgoing
    assert last.sequence == (first.sequence + 5) & 0xFFFFFFFF
    for one in (connection, listening, departures):
        one.close()


@FAMILIES
def test_arrivals_are_read_to_the_last_field(lan: Lan, server: str, client: str) -> None:
    listening = listen(lan, server)
    arrivals = tap(lan, "first", server, outgoing=False)
    connection = lan.connect(server, PORT)
    connection.sendall(b"1234567")
    opening, answer, data = read(arrivals, 3)
    assert opening.flags == SYN
    assert answer.flags == ACK
    assert (data.data_bytes, data.sequence, answer.data_bytes) == (7, (opening.sequence + 1) & 0xFFFFFFFF, 0)
    assert opening.clock is not None
    assert data.clock is not None
    assert opening.echo == 0
    assert data.echo not in (None, 0)
    assert not data.outgoing
    assert arrivals.lost() == 0
    for one in (connection, listening, arrivals):
        one.close()


@FAMILIES
def test_other_addresses_are_not_seen(lan: Lan, server: str, client: str) -> None:
    listening = listen(lan, server)
    arrivals = tap(lan, "first", "fd91::77" if ":" in server else "10.91.0.77", outgoing=False)
    connection = lan.connect(server, PORT)
    connection.sendall(b"data")
    accepted, _ = listening.accept()
    assert accepted.recv(4) == b"data"
    assert arrivals.read() == []
    for one in (accepted, connection, listening, arrivals):
        one.close()


@FAMILIES
def test_a_reset_made_by_hand_is_taken_where_it_is_exact(lan: Lan, server: str, client: str) -> None:
    listening = listen(lan, server)
    arrivals = tap(lan, "first", server, outgoing=False)
    connection = lan.connect(server, PORT)
    last = read(arrivals, 2)[-1]
    with lan.inside("first"):
        sender = SegmentSender()
    ends = (ip_address(server), PORT, ip_address(client), connection.getsockname()[1])
    # Out of its window: it is not believed, and answers where it is.
    assert sender.send(*ends, sequence=(last.acknowledgement - 100_000) & 0xFFFFFFFF, ack=0, flags=ACK)
    answer = read(arrivals, 1)[0]
    assert (answer.flags, answer.acknowledgement) == (ACK, last.acknowledgement)
    assert sender.send(*ends, sequence=answer.acknowledgement, ack=0, flags=RST)
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    for one in (connection, listening, arrivals, sender):
        one.close()


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_what_is_too_short_is_no_segment(size: int) -> None:
    for protocol in (0x0800, 0x86DD, 0x0806):
        assert parse_segment(bytes(size), protocol, outgoing=False) is None
        packet = bytearray(size)
        packet[:1], packet[6:7], packet[9:10] = b"\x45", b"\x06", b"\x06"
        assert parse_segment(bytes(packet[:size]), protocol, outgoing=False) is None or size >= 40
