"""The format of netlink(7): messages one behind the other, and attributes within them. Pure.

Sockets are opened where they are used: agents call with the interpreter lock held, the watchdog waits for no other
room.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

REQUEST, ACK, DUMP, CREATE, REPLACE = 0x1, 0x4, 0x300, 0x400, 0x100
"""Flags of a message."""
ERROR: Final = 2
"""Kind of an answer that carries an errno, 0 for an acknowledgement."""
HEADER: Final = struct.Struct("=IHHII")
NESTED: Final = 0x8000
"""Flag of an attribute that holds others."""
_ATTRIBUTE: Final = struct.Struct("=HH")


def message(kind: int, flags: int, body: bytes) -> bytes:
    """One request, without sequence number and port."""
    return HEADER.pack(HEADER.size + len(body), kind, flags | REQUEST, 0, 0) + body


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each message."""
    at = 0
    while at + HEADER.size <= len(datagram):
        length, kind, _, _, _ = HEADER.unpack_from(datagram, at)
        if length < HEADER.size:
            return
        yield kind, datagram[at + HEADER.size : at + length]
        at += (length + 3) & ~3


def errno_of(body: bytes) -> int:
    """The errno in the body of an answer of kind ERROR."""
    return -int(struct.unpack_from("=i", body)[0])


def codes(answers: Iterable[bytes]) -> Iterator[int]:
    """What datagrams say of the requests that they answer: 0, or the errno, of each that asked for it."""
    for answer in answers:
        for kind, body in messages(answer):
            if kind == ERROR:
                yield errno_of(body)


def attribute(kind: int, content: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(content), kind) + content + bytes(-len(content) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind, without NESTED, and content of each attribute."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & ~NESTED, data[at + 4 : at + length]
        at += (length + 3) & ~3
