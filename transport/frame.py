"""Frames: length, kind, fencing token, sequence number and checksum around a body. Sans-I/O.

A frame knows nothing of messages; `FrameDecoder` is told which kinds there are and how long the body of each may be.
Offsets: docs/wire-protocol.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import xxhash

from transport.counters import Counters, Reason
from transport.errors import FrameError

FRAME_MAGIC: Final = b"KGMF"
FRAME_FORMAT: Final = 1
BODY_BYTES_MAX: Final = 9 << 20
"""Most bytes in any body: a page part of 8 MiB that does not compress, with room to spare."""

_HEAD: Final = struct.Struct("<4sBBHIQQ")
_SUM: Final = struct.Struct("<Q")
HEADER_BYTES: Final = _HEAD.size + _SUM.size

Buffer = bytes | bytearray | memoryview


class RefusedFrame(FrameError):
    """Bytes that are no acceptable frame; nothing after them can be trusted, so the connection ends here."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. kind: 1 to 255. token: the sender's fencing token. sequence: 1, 2, 3 ... on each direction."""

    kind: int
    token: int
    sequence: int
    body: bytes


def encode_frame(kind: int, token: int, sequence: int, *body: Buffer) -> list[Buffer]:
    """Return the buffers to be sent, in order; `body` is not copied, so one body may go to many peers.

    Raises ValueError when the body is longer than BODY_BYTES_MAX: a mistake of the caller.
    """
    size = sum(len(piece) for piece in body)
    if size > BODY_BYTES_MAX:
        raise ValueError(f"a body of {size} bytes; a frame holds {BODY_BYTES_MAX}")
    head = _HEAD.pack(FRAME_MAGIC, FRAME_FORMAT, kind, 0, size, token, sequence)
    return [head + _SUM.pack(_checksum(head, body)), *body]


def _checksum(head: Buffer, body: Sequence[Buffer]) -> int:
    digest = xxhash.xxh3_64(head)
    for piece in body:
        digest.update(piece)
    return digest.intdigest()


class FrameDecoder:
    """Cuts a stream of bytes into frames. Holds at most one frame's header and allowed body, and one read beyond."""

    def __init__(self, limits: Mapping[int, int], counters: Counters) -> None:
        """`limits`: kind -> most bytes of its body; a kind that is not in it is refused. Refusals go to `counters`."""
        self._limits = dict(limits)
        self._counters = counters
        self._buffer = bytearray()
        self._needed = HEADER_BYTES
        self._refused: RefusedFrame | None = None

    def feed(self, data: Buffer) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises RefusedFrame at the first one that is not acceptable (the good ones before it in the same `data` are
        lost with it: they are sent again on the next connection), and at every later call.
        """
        if self._refused is not None:
            raise self._refused
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        with memoryview(self._buffer) as view:
            while len(view) - start >= self._needed:
                size = self._body_bytes(view[start : start + HEADER_BYTES])
                self._needed = HEADER_BYTES + size
                if len(view) - start < self._needed:
                    break
                frames.append(self._frame(view[start : start + self._needed]))
                start += self._needed
                self._needed = HEADER_BYTES
        del self._buffer[:start]
        return frames

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not complete yet: more than 0 at the end of a stream means it was cut."""
        return len(self._buffer)

    def _body_bytes(self, header: memoryview) -> int:
        magic, version, kind, zero, size, _, _ = _HEAD.unpack_from(header)
        if magic != FRAME_MAGIC or version != FRAME_FORMAT or zero:
            self._refuse(Reason.MALFORMED, f"{magic!r} is no beginning of a frame of format {FRAME_FORMAT}")
        limit = self._limits.get(kind)
        if limit is None:
            self._refuse(Reason.UNKNOWN_KIND, f"a frame has the unknown kind {kind}")
        elif size > min(limit, BODY_BYTES_MAX):
            self._refuse(Reason.OVERSIZED, f"a frame of kind {kind} has {size} bytes; at most {limit} are allowed")
        return int(size)

    def _frame(self, whole: memoryview) -> Frame:
        _, _, kind, _, _, token, sequence = _HEAD.unpack_from(whole)
        body = bytes(whole[HEADER_BYTES:])
        if _SUM.unpack_from(whole, _HEAD.size)[0] != _checksum(whole[: _HEAD.size], (body,)):
            self._refuse(Reason.CORRUPT, f"a frame of kind {kind} has another checksum than it carries")
        return Frame(kind, token, sequence, body)

    def _refuse(self, reason: Reason, what: str) -> None:
        self._counters.count(reason)
        self._refused = RefusedFrame(reason, what)
        raise self._refused
