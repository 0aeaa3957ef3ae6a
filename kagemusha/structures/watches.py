"""Watches: what looks again at a value that can't report its changes, and says what of it was changed.

One of two answers for most: sent as it was, or to be sent anew. Arrays and bytearrays are compared and sent by block.
"""

from __future__ import annotations

from typing import Any

from kagemusha.structures.checksum import digest
from kagemusha.structures.values import Packer, is_array, numpy

BLOCK_BYTES = 4096
"""Arrays are compared and sent in blocks of this size."""
_COARSE_BYTES = 64 * BLOCK_BYTES

UNCHANGED, REPLACED = "unchanged", "replaced"


class Watch:
    """A value that can change without telling."""

    __slots__ = ()

    def look(self, value: Any, packer: Packer) -> Any:
        """Return UNCHANGED, REPLACED, or a list of [offset, bytes]; takes note of it."""
        raise NotImplementedError


class PackedWatch(Watch):
    """Compares the checksum of all that is packed: for small mutable values."""

    __slots__ = ("_digest",)

    def __init__(self, value: Any, packer: Packer) -> None:
        self._digest = digest(packer.one(value))

    def look(self, value: Any, packer: Packer) -> Any:
        """See the class."""
        now = digest(packer.one(value))
        if now == self._digest:
            return UNCHANGED
        self._digest = now
        return REPLACED


class BytesWatch(Watch):
    """Compares a bytearray with a copy of it, by block."""

    __slots__ = ("_shadow", "_target")

    def __init__(self, value: bytearray) -> None:
        self._target = value
        self._shadow = bytes(value)

    def look(self, value: Any, packer: Packer) -> Any:
        """See the class."""
        old = self._shadow
        if value is not self._target or len(value) != len(old):
            return REPLACED
        if value == old:
            return UNCHANGED
        new = self._shadow = bytes(value)
        return [
            [at, new[at : at + BLOCK_BYTES]]
            for coarse in range(0, len(new), _COARSE_BYTES)
            if new[coarse : coarse + _COARSE_BYTES] != old[coarse : coarse + _COARSE_BYTES]
            for at in range(coarse, min(coarse + _COARSE_BYTES, len(new)), BLOCK_BYTES)
            if new[at : at + BLOCK_BYTES] != old[at : at + BLOCK_BYTES]
        ]


class ArrayWatch(Watch):
    """Compares a contiguous numpy array with a copy of it, by block, bit by bit (so that NaN equals itself)."""

    __slots__ = ("_shadow", "_target")

    def __init__(self, value: Any) -> None:
        self._target = value
        self._shadow = as_bytes(value).copy()

    def look(self, value: Any, packer: Packer) -> Any:
        """See the class."""
        if value is not self._target or value.nbytes != self._shadow.nbytes:
            return REPLACED
        new, old = as_bytes(value), self._shadow
        split = len(new) // BLOCK_BYTES * BLOCK_BYTES
        words = [part[:split].view("u8").reshape(-1, BLOCK_BYTES // 8) for part in (new, old)]
        places = [int(row) * BLOCK_BYTES for row in (words[0] != words[1]).any(axis=1).nonzero()[0]]
        if (new[split:] != old[split:]).any():
            places.append(split)
        for at in places:
            old[at : at + BLOCK_BYTES] = new[at : at + BLOCK_BYTES]
        return [[at, new[at : at + BLOCK_BYTES].tobytes()] for at in places] or UNCHANGED


def as_bytes(array: Any) -> Any:
    """Return the memory of a contiguous array as an array of bytes, without copying."""
    return array.reshape(-1).view("u1") if array.size else numpy().empty(0, "u1")


def watch_on(value: Any, packer: Packer) -> Watch:
    """Return what watches over a value that can change without telling."""
    if type(value) is bytearray:
        return BytesWatch(value)
    if is_array(value) and value.flags.c_contiguous and not value.dtype.hasobject:
        return ArrayWatch(value)
    return PackedWatch(value, packer)


def patch(value: Any, blocks: list[Any]) -> None:
    """Write changed blocks into an array or bytearray; raises ValueError when they don't fit."""
    memory = as_bytes(value) if is_array(value) else value
    for at, block in blocks:
        if at < 0 or at + len(block) > len(memory):
            raise ValueError(f"a block at {at} lies outside of {len(memory)} bytes")
        if is_array(value):
            memory[at : at + len(block)] = numpy().frombuffer(block, "u1")
        else:
            memory[at : at + len(block)] = block
