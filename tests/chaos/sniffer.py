"""`python -m tests.chaos.sniffer ADDRESS FILE`: who sends data from the program's address, looked at on the bridge.

Every node has a port `to-NODE` there. What comes out of a port was sent by that node, whatever it says of itself. One
socket sees all ports, so the order is one. The end of the standard input ends it; then FILE is written.
"""

from __future__ import annotations

import array
import json
import select
import socket
import struct
import sys
import time
from pathlib import Path

from tests.chaos.evidence import Serving, as_line
from tests.chaos.witness import say_ready

_ETH_P_IP = 0x0800
_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_PACKET_OUTGOING = 4
_HEADERS = 128
_BUFFER_BYTES = 8 << 20


def filter_of(address: str) -> bytes:
    """Keep 128 bytes of IPv4 TCP packets from this address. Source: linux/filter.h, classic BPF on Ethernet frames."""
    (source,) = struct.unpack("!I", socket.inet_aton(address))
    code = (
        (0x28, 0, 0, 12),  # A = type of the frame
        (0x15, 0, 5, _ETH_P_IP),
        (0x30, 0, 0, 14 + 9),  # A = protocol
        (0x15, 0, 3, socket.IPPROTO_TCP),
        (0x20, 0, 0, 14 + 12),  # A = source address
        (0x15, 0, 1, source),
        (0x06, 0, 0, _HEADERS),
        (0x06, 0, 0, 0),
    )
    return b"".join(struct.pack("HBBI", *one) for one in code)


def has_data(frame: bytes) -> bool:
    """Whether an IPv4 TCP packet carries bytes of the stream (RFC 791, RFC 9293). A TCP offloaded packet without a
    total length is a long one."""
    if len(frame) < 14 + 20 or frame[14 + 9] != socket.IPPROTO_TCP:
        return False
    (total,) = struct.unpack_from("!H", frame, 14 + 2)
    header = (frame[14] & 15) * 4
    tcp = 14 + header
    return total == 0 or (len(frame) > tcp + 12 and total > header + (frame[tcp + 12] >> 4) * 4)


class Runs:
    """The runs of packets, node by node."""

    def __init__(self) -> None:
        self.ended: list[Serving] = []
        self._now: Serving | None = None

    def see(self, node: str, at_ns: int) -> None:
        """A packet with data came from this node."""
        now = self._now
        if now is None or now.node != node:
            if now is not None:
                self.ended.append(now)
            self._now = Serving(node, at_ns, at_ns, 1)
        else:
            self._now = Serving(node, now.first_ns, at_ns, now.packets + 1)

    def all(self) -> list[Serving]:
        """Also the last one."""
        return self.ended if self._now is None else [*self.ended, self._now]


def watch(address: str) -> list[Serving]:
    """Look until the standard input ends."""
    runs = Runs()
    code = array.array("B", filter_of(address))
    where, _ = code.buffer_info()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as look:
        look.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(code) // 8, where))
        look.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        _drain(look)
        say_ready()
        while True:
            ready, _, _ = select.select([look, sys.stdin], [], [])
            if look in ready:
                frame, (port, _, direction, *_) = look.recvfrom(_HEADERS)
                if direction != _PACKET_OUTGOING and port.startswith("to-") and has_data(frame):
                    runs.see(port.removeprefix("to-"), time.monotonic_ns())
            elif not sys.stdin.read(1):
                return runs.all()


def _drain(look: socket.socket) -> None:
    """What came before the filter was there, is of no interest."""
    while select.select([look], [], [], 0)[0]:
        look.recv(_HEADERS)


if __name__ == "__main__":
    found = watch(sys.argv[1])
    Path(sys.argv[2]).write_text("".join(json.dumps(as_line(one)) + "\n" for one in found))
