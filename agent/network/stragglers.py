"""What clients send to the old node while the program moves: caught, and sent on to the node that serves now.

Between the moment at which the old node drops the program's address and the moment at which the new one announces it,
clients send into the void: a request waits 200 ms for its retransmission, a connection attempt a whole second
(RFC 6298), though the takeover took only some milliseconds. So the old node, while it still lives, catches these
frames, and when it hears the announcement on the wire it sends them after the address, with a new link header.

What was also delivered here before the address went arrives twice at most, which TCP is made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.kernel.frames import Address, FrameCatcher, announced_by
from agent.kernel.rtnetlink import Link

FRAMES_MAX: Final = 4096
BYTES_MAX: Final = 8 << 20


class Stragglers:
    """The stragglers of one program on one link. Opened ahead, in the link's network namespace.

    `begin` before the address is dropped; `pump` whenever one of `filenos` is readable; `close` when the clients know
    better (their neighbour entries are new as soon as they have heard the announcement).
    """

    def __init__(self, link: Link, addresses: Sequence[Address]) -> None:
        self._catchers = [FrameCatcher(link, address) for address in addresses]
        self._kept: list[list[bytes]] = [[] for _ in addresses]
        self._heirs: list[bytes | None] = [None for _ in addresses]
        self._kept_bytes = 0
        self.sent_on = 0
        self.dropped = 0

    def begin(self) -> None:
        """Catch from now on."""
        for catcher in self._catchers:
            catcher.begin()

    def filenos(self) -> list[int]:
        """The descriptors to wait for."""
        return [catcher.fileno() for catcher in self._catchers]

    def pump(self) -> None:
        """Take what has come; keep it, or send it on if the new node is known. Never waits."""
        for number, catcher in enumerate(self._catchers):
            while (frame := catcher.read()) is not None:
                heir = announced_by(frame)
                if heir is not None:
                    self._found(number, heir)
                elif self._heirs[number] is None:
                    self._keep(number, frame)
                else:
                    self._send_on(number, frame)

    def _keep(self, number: int, frame: bytes) -> None:
        """Clients send again what finds no room here."""
        if len(self._kept[number]) >= FRAMES_MAX or self._kept_bytes + len(frame) > BYTES_MAX:
            self.dropped += 1
            return
        self._kept[number].append(frame)
        self._kept_bytes += len(frame)

    def _found(self, number: int, heir: bytes) -> None:
        self._heirs[number] = heir
        kept, self._kept[number] = self._kept[number], []
        for frame in kept:
            self._kept_bytes -= len(frame)
            self._send_on(number, frame)

    def _send_on(self, number: int, frame: bytes) -> None:
        heir = self._heirs[number]
        if heir is not None and self._catchers[number].send_on(frame, heir):
            self.sent_on += 1
        else:
            self.dropped += 1

    def close(self) -> None:
        """Catch nothing more. What was kept and not sent on is forgotten."""
        for catcher in self._catchers:
            catcher.close()
