"""`python -m tests.chaos.sniffer ADDRESS FILE`: who sends data from the program's address, looked at on the bridge.

Every node has a port `to-NODE` there. What comes out of a port was sent by that node, whatever it says of itself. One
socket sees all ports, so the order is one. The end of the standard input ends it; then FILE is written.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

from tests.chaos.evidence import Serving, as_line
from tests.chaos.witness import say_ready
from tests.segments import ETH_P_ALL, from_address, has_data, keep_only

_SO_RCVBUFFORCE = 33
_PACKET_OUTGOING = 4
_HEADERS = 128
_BUFFER_BYTES = 8 << 20


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
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as look:
        keep_only(look, from_address(address, _HEADERS))
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
