"""What a bad wire does to a frame (pure but for the chance that it is given)."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass

_IPV4 = b"\x08\x00"
_ETHERNET = 14


@dataclass(frozen=True, slots=True)
class Wire:
    """delay_ms: of every frame. jitter_ms: more, by chance, each its own, so that frames overtake each other.
    duplicated, corrupted: shares of the frames. spared: an IPv4 address whose packets are not corrupted: those who use
    it have nothing that would notice."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    duplicated: float = 0.0
    corrupted: float = 0.0
    spared: str = ""

    def deliver(self, frame: bytes, headers: int, chance: random.Random) -> list[tuple[float, bytes]]:
        """What arrives: after how many seconds, what. headers: bytes before the frame itself."""
        if chance.random() < self.corrupted:
            frame = self._corrupt(frame, headers, chance)
        times = 2 if chance.random() < self.duplicated else 1
        return [((self.delay_ms + chance.uniform(0, self.jitter_ms)) / 1e3, frame) for _ in range(times)]

    def _corrupt(self, frame: bytes, headers: int, chance: random.Random) -> bytes:
        """One bit of what a TCP segment carries (RFC 791, RFC 9293); all else arrives as it is."""
        start = headers + _ETHERNET
        packet = frame[start:]
        if frame[start - 2 : start] != _IPV4 or len(packet) < 40 or packet[9] != socket.IPPROTO_TCP:
            return frame
        if self.spared and socket.inet_aton(self.spared) in (packet[12:16], packet[16:20]):
            return frame
        tcp = (packet[0] & 15) * 4
        first = start + tcp + (packet[tcp + 12] >> 4) * 4
        if first >= len(frame):
            return frame
        place = chance.randrange(first, len(frame))
        return frame[:place] + bytes([frame[place] ^ 1 << chance.randrange(8)]) + frame[place + 1 :]
