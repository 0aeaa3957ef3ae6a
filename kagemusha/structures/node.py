"""A node: what is known of one container that is mirrored, and the watches on what it holds that can't report itself.

Containers that are tracked tell their node what was changed. All other mutable values (a plain list in a tracked dict,
an array) are watched: looked at again at each interval, and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable, ClassVar

from kagemusha.structures.values import MIXED, is_array, numpy

if TYPE_CHECKING:
    from kagemusha.structures.graph import Graph

BLOCK_BYTES = 4096
"""Arrays are compared and sent in blocks of this size."""
_COARSE_BYTES = 64 * BLOCK_BYTES

UNCHANGED, REPLACED = "unchanged", "replaced"


class Node:
    """One container. `clean`: nothing was reported since the last delta. `whole`: send everything next time.

    `watches`: place in the container -> Watch. Containers call `touch` before they report a first change.
    """

    __slots__ = ("clean", "graph", "number", "watches", "whole")
    kind: ClassVar[str] = ""

    def __init__(self, graph: Graph, number: int) -> None:
        self.graph = graph
        self.number = number
        self.clean = True
        self.whole = False
        self.watches: dict[Any, Watch] = {}

    def touch(self, target: Any) -> None:
        """Have the graph ask this node at the next delta."""
        self.clean = False
        self.graph.touched[self.number] = target

    def renew(self, target: Any) -> None:
        """Everything may have changed: send the whole container next time."""
        self.touch(target)
        self.whole = True

    def forget_changes(self) -> None:
        """All that was reported is known by other ways."""
        self.clean, self.whole = True, False

    def scan(self, target: Any) -> None:
        """Find what was changed, in a container that does not report it."""
        raise NotImplementedError

    def remember(self, target: Any) -> None:
        """Keep what scan() compares with."""
        raise NotImplementedError

    def take(self, target: Any) -> list[Any] | None:
        """Return the operation that brings a copy up to date, forget what was reported; None: nothing to do."""
        raise NotImplementedError

    def fill(self, target: Any) -> list[Any]:
        """Return the operation that makes an empty or older container equal to `target`."""
        raise NotImplementedError

    def apply(self, target: Any, operation: list[Any]) -> None:
        """Carry out an operation, past the tracking."""
        raise NotImplementedError

    def watch(self, place: Any, value: Any) -> None:
        """Look at `value` again next time, if it can change without telling."""
        watch = watch_on(value, self.graph)
        if watch is not None:
            self.watches[place] = watch
            self.graph.watching[self.number] = self
        elif self.watches:
            self.watches.pop(place, None)

    def watch_all(self, places: Any, values: Iterable[Any], mode: int = MIXED) -> None:
        """Do the same for many; quick where the `mode` of their column says that nothing can change."""
        if mode != MIXED:
            if self.watches:
                for place in places:
                    self.watches.pop(place, None)
            return
        for place, value in zip(places, values):
            self.watch(place, value)

    def looked(self, get: Callable[[Any], Any], skip: Any) -> tuple[list[Any], list[Any]]:
        """Compare what is watched; return the places to send anew, and patches: [place, [[offset, bytes] ...]]."""
        replaced: list[Any] = []
        patches: list[Any] = []
        for place, watch in list(self.watches.items()):
            if place in skip:
                continue
            result = watch.look(get(place), self.graph)
            if result is REPLACED:
                replaced.append(place)
            elif result is not UNCHANGED:
                patches.append([self.graph.packer.one(place), result])
        return replaced, patches


class Watch:
    """A value that can change without telling."""

    __slots__ = ()

    def look(self, value: Any, graph: Graph) -> Any:
        """Return UNCHANGED, REPLACED, or a list of [offset, bytes]; takes note of it."""
        raise NotImplementedError


class PackedWatch(Watch):
    """Compares the checksum of all that is packed: for small mutable values."""

    __slots__ = ("_digest",)

    def __init__(self, value: Any, graph: Graph) -> None:
        self._digest = digest(graph.packer.one(value))

    def look(self, value: Any, graph: Graph) -> Any:
        """See the class."""
        now = digest(graph.packer.one(value))
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

    def look(self, value: Any, graph: Graph) -> Any:
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

    def look(self, value: Any, graph: Graph) -> Any:
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


def watch_on(value: Any, graph: Graph) -> Watch | None:
    """Return what watches over a value; None if it needs no watch."""
    if graph.is_settled(value):
        return None
    if type(value) is bytearray:
        return BytesWatch(value)
    if is_array(value) and value.flags.c_contiguous and not value.dtype.hasobject:
        return ArrayWatch(value)
    return PackedWatch(value, graph)


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


def digest(*pieces: bytes) -> bytes:
    """Return the 8-byte checksum of docs/structures-protocol.md."""
    checksum = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        checksum.update(piece)
    return checksum.digest()
