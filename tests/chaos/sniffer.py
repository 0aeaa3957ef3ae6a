"""`python -m tests.chaos.sniffer ADDRESS FILE`: who sends data from the program's address, looked at on the bridge.

Every node has a port `to-NODE` there. What comes out of a port was sent by that node, whatever it says of itself. One
socket sees all ports, so the order is one; the time of a packet is the kernel's, however late it is read (socket(7),
SO_TIMESTAMPNS). The end of the standard input ends it; then FILE is written, unless packets were missed.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.evidence import NS_PER_S, SILENCE_NS, Serving, as_line
from tests.chaos.witness import say_ready
from tests.segments import ETH_P_ALL, from_address, has_data, keep_only

_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_TIMESPEC = struct.Struct("@qq")
_STATISTICS = struct.Struct("@II")
"""linux/if_packet.h: struct tpacket_stats, packets and drops."""
_PACKET_OUTGOING = 4
_HEADERS = 128
_BUFFER_BYTES = 32 << 20
_TRIES = 3
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)


class Runs:
    """The runs of packets, node by node."""

    def __init__(self) -> None:
        self.ended: list[Serving] = []
        self._now: Serving | None = None

    def see(self, node: str, at_ns: int) -> None:
        """A packet with data came from this node."""
        now = self._now
        if now is None or now.node != node or at_ns - now.last_ns >= SILENCE_NS:
            if now is not None:
                self.ended.append(now)
            self._now = Serving(node, at_ns, at_ns, 1)
        else:
            self._now = Serving(node, now.first_ns, at_ns, now.packets + 1)

    def all(self) -> list[Serving]:
        """Also the last one."""
        return self.ended if self._now is None else [*self.ended, self._now]


class MissedError(Exception):
    """Not everything was seen: the kernel had no room for it."""


def stamp_ns(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """When the kernel had a packet, by CLOCK_MONOTONIC; it says so by CLOCK_REALTIME. Where it says nothing: now."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return int(seconds) * NS_PER_S + int(nanoseconds) - min(_ahead_ns() for _ in range(_TRIES))[1]
    return time.monotonic_ns()


def _ahead_ns() -> tuple[int, int]:
    """How uncertain it is, and by how much CLOCK_REALTIME is ahead of CLOCK_MONOTONIC."""
    before_ns, real_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    return after_ns - before_ns, real_ns - before_ns


def watch(address: str) -> list[Serving]:
    """Look until the standard input ends. Raises MissedError."""
    runs = Runs()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as look:
        keep_only(look, from_address(address, _HEADERS))
        look.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        look.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _drain(look)
        say_ready()
        while True:
            ready, _, _ = select.select([look, sys.stdin], [], [])
            if look in ready:
                frame, ancillary, _, (port, _, direction, *_) = look.recvmsg(_HEADERS, _ANCILLARY_BYTES)
                if direction != _PACKET_OUTGOING and port.startswith("to-") and has_data(frame):
                    runs.see(port.removeprefix("to-"), stamp_ns(ancillary))
            elif not sys.stdin.read(1):
                _, missed = _STATISTICS.unpack(look.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
                if missed:
                    raise MissedError(f"{missed} packets were missed")
                return runs.all()


def _drain(look: socket.socket) -> None:
    """What came before the filter was there, is of no interest, nor is what was missed of it."""
    while select.select([look], [], [], 0)[0]:
        look.recv(_HEADERS)
    look.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)


if __name__ == "__main__":
    found = watch(sys.argv[1])
    Path(sys.argv[2]).write_text("".join(json.dumps(as_line(one)) + "\n" for one in found))
