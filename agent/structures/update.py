"""What travels of a native structure: whole copies and updates, each checked before anything of it is applied. Pure.

A version's state names its content and history: it is the checksum of the update that led there, which has the state
before as an input. So an update that was lost, repeated, reordered or changed on its way can never be taken for the
next one (docs/structures-protocol.md has the words; the data is parts of pages, docs/checkpoint-format.md).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.memory.page_ranges import NO_PAGES
from agent.structures.blocks import BLOCK_BYTES, BLOCK_WORDS, Blocks, Rows, count_blocks
from transport.checkpoint import PART_PAGES
from transport.delta import PagePartDecoder, PagePartEncoder
from transport.errors import CorruptUpdate, StaleUpdate

NO_STATE: Final = bytes(8)
_SOME: Final = 64
_LENGTH: Final = struct.Struct("<I")
_VERSION: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Update:
    """One version of a structure, from its base on, or (base_version 0) whole.

    base, state, sum: 8 bytes each; the state of an update is its sum. token: the fencing token of who made it.
    """

    structure: str
    token: int
    base_version: int
    base: bytes
    version: int
    state: bytes
    sum: bytes
    data: bytes

    @property
    def is_whole(self) -> bool:
        return self.base_version == 0

    def verify(self) -> None:
        """Raise CorruptUpdate unless every byte of it is as it was made."""
        if _sum(self.structure, self.version, self.base, self.state if self.is_whole else b"", self.data) != self.sum:
            raise CorruptUpdate(f"version {self.version} of {self.structure} has another checksum than it carries")
        if not self.is_whole and self.state != self.sum:
            raise CorruptUpdate(f"version {self.version} of {self.structure} has another state than its update makes")


@dataclass(frozen=True, slots=True)
class Applied:
    """A mirror's program holds this version now."""

    structure: str
    version: int
    state: bytes


def _sum(structure: str, version: int, base: bytes, state: bytes, data: bytes) -> bytes:
    found = hashlib.blake2b(digest_size=8)
    for piece in (structure.encode(), b"\0", _VERSION.pack(version), base, state, data):
        found.update(piece)
    return found.digest()


class Original:
    """The content of a structure as the mirrors were last told, and what leads from there on. version 0: nothing yet.

    rows: all blocks; only this changes them. One encoder may serve several structures, in one thread.
    """

    def __init__(self, structure: str, size: int, encoder: PagePartEncoder, *, token: int = 0, after: int = 0) -> None:
        """after: the highest version that a mirror may hold with this token, from an agent that was here before."""
        self.structure, self.token = structure, token
        self._after = after
        self.version, self.state = 0, NO_STATE
        self.rows: Rows = np.zeros((count_blocks(size), BLOCK_WORDS), np.uint64)
        self._encoder = encoder

    @classmethod
    def continued(cls, copy: Copy, encoder: PagePartEncoder, token: int) -> Original:
        """A mirror's copy goes on as the original, after its promotion: mirrors that hold the same follow it."""
        found = cls(copy.structure, len(copy.rows) * BLOCK_BYTES, encoder, token=token)
        found.rows[:] = copy.rows
        found.version, found.state = copy.version, copy.state
        return found

    def advance(self, blocks: Blocks, rows: Rows) -> Update | None:
        """The next version, in which these blocks have these contents; None if they have already.

        The first one must have all blocks, and is whole.
        """
        if not self.version:
            if len(blocks) != len(self.rows):
                raise ValueError(f"{len(blocks)} blocks of {len(self.rows)} in the first version")
            self.rows[:] = rows
            self.version = self._after + 1
            data = self._data(None)
            self.state = _sum(self.structure, self.version, NO_STATE, b"", data)
            return self._whole(data)
        changed = self._changed(blocks, rows)
        if not len(changed):
            return None
        blocks, rows = blocks[changed], rows[changed]
        before = self.rows[blocks]
        data = self._data((blocks, before, rows))
        self.rows[blocks] = rows
        base_version, base = self.version, self.state
        self.version += 1
        self.state = _sum(self.structure, self.version, base, b"", data)
        state = self.state
        return Update(self.structure, self.token, base_version, base, self.version, state, state, data)

    def _changed(self, blocks: Blocks, rows: Rows) -> NDArray[np.intp]:
        """Which of these rows are other ones than before; by some at a time, which stay in the processor's caches."""
        found = np.empty(len(blocks), np.bool_)
        is_all = len(blocks) == len(self.rows)
        for first in range(0, len(blocks), _SOME):
            some = slice(first, first + _SOME)
            before = self.rows[some] if is_all else self.rows[blocks[some]]
            np.any(before != rows[some], axis=1, out=found[some])
        return np.flatnonzero(found)

    def whole(self) -> Update:
        """The version that there is, for a mirror that has none or another one. There must be one."""
        if not self.version:
            raise ValueError(f"{self.structure} has no version yet")
        return self._whole(self._data(None))

    def _whole(self, data: bytes) -> Update:
        total = _sum(self.structure, self.version, NO_STATE, self.state, data)
        return Update(self.structure, self.token, 0, NO_STATE, self.version, self.state, total, data)

    def _data(self, change: tuple[Blocks, Rows, Rows] | None) -> bytes:
        """The parts, each after its length; None: of everything."""
        blocks = np.arange(len(self.rows), dtype=np.uint64) if change is None else change[0]
        pieces: list[bytes] = []
        for first in range(0, len(blocks), PART_PAGES):
            some = slice(first, first + PART_PAGES)
            if change is None:
                part = self._encoder.encode(blocks[some], None, self.rows[some], None)
            else:
                _, before, after = change
                fresh = np.zeros(len(blocks[some]), np.bool_)
                part = self._encoder.encode(blocks[some], before[some], after[some], fresh)
            pieces += (_LENGTH.pack(len(part)), part)
        return b"".join(pieces)


class Copy:
    """A mirror's copy of a structure. version 0: nothing yet.

    token: of the update that it has its version from. rows: all blocks.
    """

    def __init__(self, structure: str, size: int, decoder: PagePartDecoder) -> None:
        self.structure = structure
        self.version, self.state, self.token = 0, NO_STATE, 0
        self.rows: Rows = np.zeros((count_blocks(size), BLOCK_WORDS), np.uint64)
        self._decoder = decoder

    def apply(self, update: Update) -> Blocks:
        """Go to the update's version; gives the blocks that it brought, none for a repetition.

        Raises StaleUpdate, when it does not follow what is held or has a lower token, and CorruptUpdate; the copy is as
        it was then.
        """
        what = f"version {update.version} of {update.structure}"
        if update.structure != self.structure:
            raise StaleUpdate(f"{what} is none of {self.structure}")
        if update.token < self.token:
            raise StaleUpdate(f"{what} has token {update.token}, and {self.token} was seen")
        if update.token == self.token and 0 < update.version <= self.version:
            return NO_PAGES
        update.verify()
        if update.is_whole:
            if (update.version, update.state) == (self.version, self.state):
                self.token = update.token
                return NO_PAGES
        elif (update.base_version, update.base) != (self.version, self.state):
            raise StaleUpdate(
                f"{what} builds on version {update.base_version}, and {self.version} is held", hint="resynchronise"
            )
        blocks, rows = self._resolve(update)
        self.rows[blocks] = rows
        self.version, self.state, self.token = update.version, update.state, update.token
        return blocks

    def _resolve(self, update: Update) -> tuple[Blocks, Rows]:
        """All blocks of the update and their contents; base and result of every part are verified."""
        several: list[tuple[Blocks, Rows]] = []
        for piece in _parts(update.data):
            part = self._decoder.decode(piece)
            if part.absolute != update.is_whole or (len(part.pages) and int(part.pages[-1]) >= len(self.rows)):
                raise CorruptUpdate(f"version {update.version} of {self.structure} has a part that is none of it")
            rows = np.empty_like(part.xor)
            part.resolve(None if part.absolute else self.rows[part.pages], rows)
            several.append((part.pages.copy(), rows))
        blocks = np.concatenate([NO_PAGES, *(one for one, _ in several)])
        # A block twice would have been resolved against the same base twice.
        if not (blocks[1:] > blocks[:-1]).all() or (update.is_whole and len(blocks) != len(self.rows)):
            raise CorruptUpdate(f"version {update.version} of {self.structure} has not the blocks that it must have")
        return blocks, np.concatenate([np.empty((0, BLOCK_WORDS), np.uint64), *(rows for _, rows in several)])


def _parts(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    while len(view):
        if len(view) < _LENGTH.size:
            raise CorruptUpdate("an update ends within the length of a part")
        (length,) = _LENGTH.unpack_from(view)
        if length > len(view) - _LENGTH.size:
            raise CorruptUpdate(f"an update ends within a part of {length} bytes")
        yield view[_LENGTH.size : _LENGTH.size + length]
        view = view[_LENGTH.size + length :]
