"""Who says what on a link: TCP segments as an AF_PACKET socket sees them."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

ETH_P_ALL = 3
DEADLINE_S = 20.0
RST, FIN = 0x4, 0x1
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment, without its content. sequence: of its first byte; length: of what it carries."""

    source: Address
    target: Address
    sequence: int
    length: int
    flags: int


class Sniffer:
    """All TCP segments on eth0 of this thread's network namespace from now on."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind(("eth0", ETH_P_ALL))

    def until(self, enough: Callable[[list[Segment]], bool]) -> list[Segment]:
        """Collect until that is enough."""
        found: list[Segment] = []
        limit_s = time.monotonic() + DEADLINE_S
        while not enough(found):
            ready, _, _ = select.select([self._socket], [], [], max(limit_s - time.monotonic(), 0))
            assert ready, found
            found += parsed(self._socket.recv(1 << 16))
        return found

    def forget(self) -> None:
        """Take what is there already."""
        self.so_far()

    def so_far(self) -> list[Segment]:
        """What was said since the last time, as far as it is there."""
        found: list[Segment] = []
        while select.select([self._socket], [], [], 0)[0]:
            found += parsed(self._socket.recv(1 << 16))
        return found

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def parsed(frame: bytes) -> Iterator[Segment]:
    """The segment in an Ethernet frame, if there is one."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0800 and frame[23] == socket.IPPROTO_TCP:
        source, target = frame[26:30], frame[30:34]
        at = 14 + (frame[14] & 15) * 4
        end = 14 + int.from_bytes(frame[16:18], "big")
    elif kind == 0x86DD and frame[20] == socket.IPPROTO_TCP:
        source, target = frame[22:38], frame[38:54]
        at = 54
        end = 54 + int.from_bytes(frame[18:20], "big")
    else:
        return
    length = end - at - (frame[at + 12] >> 4) * 4
    sequence = int.from_bytes(frame[at + 4 : at + 8], "big")
    yield Segment(ip_address(source), ip_address(target), sequence, length, frame[at + 13])
