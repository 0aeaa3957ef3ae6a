"""What counts as an answer to a client, and to whom it is put down."""

from __future__ import annotations

import socket
import struct
import time

from tests.chaos.evidence import SILENCE_NS, Serving
from tests.chaos.sabotage import answer
from tests.chaos.sniffer import Runs, stamp_ns
from tests.segments import has_data


def frame(data: bytes, protocol: int = socket.IPPROTO_TCP, tcp_words: int = 5) -> bytes:
    """An IPv4 packet in an Ethernet frame; padded as the network does with short ones."""
    tcp = bytes(12) + bytes([tcp_words << 4]) + bytes(tcp_words * 4 - 13)
    ip = struct.pack("!BBH5xB2x", 0x45, 0, 20 + len(tcp) + len(data), protocol) + bytes(8)
    return (bytes(12) + b"\x08\x00" + ip + tcp + data).ljust(60, b"\0")


def test_a_segment_with_data_is_an_answer_and_an_acknowledgement_is_none() -> None:
    assert has_data(frame(b"+OK\r\n"))
    assert has_data(frame(b"x" * 1000)[:128]), "only its beginning is kept"
    assert has_data(frame(b"+OK\r\n", tcp_words=8))
    assert has_data(answer(bytes(6), "10.77.0.100", "10.77.0.4")), "what is sent on purpose"
    assert not has_data(frame(b""))
    assert not has_data(frame(b"", tcp_words=8))
    assert not has_data(frame(b"data", protocol=socket.IPPROTO_UDP))
    assert not has_data(b"")


def test_packets_of_one_node_without_another_between_are_one_run() -> None:
    runs = Runs()
    assert runs.all() == []
    for at_ns, node in enumerate("aabba"):
        runs.see(node, at_ns)
    assert runs.all() == [Serving("a", 0, 1, 2), Serving("b", 2, 3, 2), Serving("a", 4, 4, 1)]


def test_a_silence_ends_a_run() -> None:
    runs = Runs()
    for at_ns in (0, SILENCE_NS - 1, 2 * SILENCE_NS - 1):
        runs.see("a", at_ns)
    assert runs.all() == [
        Serving("a", 0, SILENCE_NS - 1, 2),
        Serving("a", 2 * SILENCE_NS - 1, 2 * SILENCE_NS - 1, 1),
    ]


def test_the_time_of_a_packet_is_the_kernels() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, 35, 1)
        before_ns = time.monotonic_ns()
        theirs.send(b"x")
        after_ns = time.monotonic_ns()
        _, ancillary, _, _ = ours.recvmsg(1, 128)
    # Much later than that, and no more exact than two clocks can be read.
    assert before_ns - 1_000_000 < stamp_ns(ancillary) < after_ns + 1_000_000
    assert stamp_ns([]) >= after_ns
