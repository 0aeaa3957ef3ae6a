"""Frames and messages of docs/structures-protocol.md. Sans-I/O: bytes to messages and back, with every limit."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from kagemusha.structures.errors import ProtocolError, Refused
from kagemusha.structures.structure import NO_STATE, Update

PIECE_BYTES = 1 << 20
FRAME_BYTES_MAX = PIECE_BYTES + (64 << 10)
FORMAT = 1
_SIZE = struct.Struct("<I")

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """Return a message as a frame. Raises ValueError when it is too long: a mistake of the caller."""
    body = msgpack.packb(message)
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes; a frame holds {FRAME_BYTES_MAX}")
    return _SIZE.pack(len(body)) + bytes(body)


class FrameReader:
    """Cuts a stream of bytes into messages; holds at most one frame and one read beyond."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes; raises ProtocolError for bytes that are none."""
        self._buffer += data
        messages: list[Message] = []
        start = 0
        while len(self._buffer) - start >= _SIZE.size:
            (size,) = _SIZE.unpack_from(self._buffer, start)
            if not 0 < size <= FRAME_BYTES_MAX:
                raise ProtocolError(f"a frame of {size} bytes; 1 to {FRAME_BYTES_MAX} are allowed")
            end = start + _SIZE.size + size
            if len(self._buffer) < end:
                break
            messages.append(_message(bytes(self._buffer[start + _SIZE.size : end])))
            start = end
        del self._buffer[:start]
        return messages


def _message(body: bytes) -> Message:
    try:
        message = msgpack.unpackb(body, strict_map_key=True)
    except Exception as error:
        raise ProtocolError(f"a frame that holds no msgpack: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ProtocolError("a frame that holds no map with a kind")
    return message


def field(message: Message, name: str, kind: type) -> Any:
    """Return a field of that type; raises ProtocolError when it is missing or of another."""
    value = message.get(name)
    if type(value) is not kind:
        raise ProtocolError(f"{message['kind']}: the field {name} is no {kind.__name__}")
    return value


def pieces(update: Update, age_us: int) -> Iterator[Message]:
    """Return an update or whole copy as its messages."""
    view = memoryview(update.data)
    message: Message = {
        "kind": "whole" if update.is_whole else "update",
        "structure": update.structure,
        "token": update.token,
        "version": update.version,
        "state": update.state,
        "sum": update.sum,
        "size": len(view),
        "age_us": age_us,
        "data": view[:PIECE_BYTES],
    }
    if not update.is_whole:
        message.update(base_version=update.base_version, base=update.base)
    yield message
    for at in range(PIECE_BYTES, len(view), PIECE_BYTES):
        yield {"kind": "more", "data": view[at : at + PIECE_BYTES]}


@dataclass
class Incoming:
    """An update whose pieces are still coming."""

    update: Update
    age_us: int
    size: int
    data: bytearray

    @property
    def complete(self) -> Update | None:
        """The update, once all is there."""
        if len(self.data) < self.size:
            return None
        given = self.update
        return Update(
            given.structure,
            given.token,
            given.base_version,
            given.base,
            given.version,
            given.state,
            given.sum,
            bytes(self.data),
        )


class Assembler:
    """Puts the pieces of updates together again."""

    def __init__(self) -> None:
        self._incoming: Incoming | None = None

    def begin(self, message: Message, limit_bytes: int | None) -> Incoming:
        """Take the first piece of an update or whole copy.

        Raises ProtocolError where one is not complete yet; Refused ("unknown-structure" for `limit_bytes` None,
        "too-large") for one whose pieces are to be skipped.
        """
        if self._incoming is not None and self._incoming.complete is None:
            raise ProtocolError(f"a {message['kind']} before the one before it was complete")
        whole = message["kind"] == "whole"
        size, data = field(message, "size", int), field(message, "data", bytes)
        update = Update(
            field(message, "structure", str),
            field(message, "token", int),
            0 if whole else field(message, "base_version", int),
            NO_STATE if whole else field(message, "base", bytes),
            field(message, "version", int),
            field(message, "state", bytes),
            field(message, "sum", bytes),
            b"",
        )
        if limit_bytes is not None and size > limit_bytes * (1 if whole else 2):
            what = f"structure {update.structure}: {size} bytes; its limit is {limit_bytes}"
            raise Refused("too-large", what, hint="a higher limit on both sides")
        if limit_bytes is None:
            raise Refused("unknown-structure", f"structure {update.structure} is not mirrored in this program")
        self._incoming = Incoming(update, field(message, "age_us", int), size, bytearray())
        return self._added(data)

    def more(self, message: Message) -> Incoming | None:
        """Take a further piece; None if it belongs to one that is skipped. Raises ProtocolError for one too many."""
        return None if self._incoming is None else self._added(field(message, "data", bytes))

    def skip(self) -> None:
        """Nobody wants what is coming."""
        self._incoming = None

    def _added(self, data: bytes) -> Incoming:
        incoming = self._incoming
        if incoming is None or len(incoming.data) + len(data) > incoming.size:
            raise ProtocolError("more data than an update said it has")
        incoming.data += data
        return incoming
