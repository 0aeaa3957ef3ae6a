"""`python -m tests.chaos.relay PORT LINE WIRE SEED`: carries frames between two interfaces as a bad wire does.

WIRE: the fields of `bad_wire.Wire` as a JSON object. A line on the standard input is answered with the counts so far;
its end ends the wire. Offloads go along: packet(7), PACKET_VNET_HDR; linux/virtio_net.h.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
import time
from itertools import count

from tests.chaos.bad_wire import Wire
from tests.chaos.witness import say_ready

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE = 33
_VNET_HEADER = 10
_FRAME_MAX = (1 << 16) + 256


class Relay:
    """carried, changed: how many frames came, and how many of them left otherwise than they came."""

    def __init__(self, interfaces: tuple[str, str], wire: Wire, chance: random.Random) -> None:
        self._ends = [_open(name) for name in interfaces]
        self._wire = wire
        self._chance = chance
        self._waiting: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = count()
        self.carried = self.changed = 0

    def run(self) -> None:
        """Until the standard input ends."""
        across = dict(zip(self._ends, reversed(self._ends), strict=True))
        while True:
            rest_s = max(self._waiting[0][0] - time.monotonic(), 0.0) if self._waiting else None
            ready, _, _ = select.select([*self._ends, sys.stdin], [], [], rest_s)
            for end in self._ends:
                if end in ready:
                    self._take(end.recv(_FRAME_MAX), across[end])
            self._send_due()
            if sys.stdin in ready and not self._answer():
                return

    def _answer(self) -> bool:
        """Say the counts; False at the end of the input."""
        if not sys.stdin.readline():
            return False
        sys.stdout.write(json.dumps({"carried": self.carried, "changed": self.changed}) + "\n")
        sys.stdout.flush()
        return True

    def _take(self, frame: bytes, to: socket.socket) -> None:
        self.carried += 1
        arrivals = self._wire.deliver(frame, _VNET_HEADER, self._chance)
        self.changed += len(arrivals) != 1 or arrivals[0] != (0.0, frame)
        for after_s, what in arrivals:
            heapq.heappush(self._waiting, (time.monotonic() + after_s, next(self._numbers), to, what))

    def _send_due(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, _, to, frame = heapq.heappop(self._waiting)
            try:
                to.send(frame)
            except OSError:
                pass  # No room, or the interface is down: a wire loses a frame then.


def _open(name: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    for option in (_PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING):
        made.setsockopt(_SOL_PACKET, option, 1)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
    made.bind((name, _ETH_P_ALL))
    return made


if __name__ == "__main__":
    relay = Relay((sys.argv[1], sys.argv[2]), Wire(**json.loads(sys.argv[3])), random.Random(int(sys.argv[4])))
    say_ready()
    relay.run()
