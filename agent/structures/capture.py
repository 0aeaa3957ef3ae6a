"""A structure of a running program, read again and again: only the pages that changed, most of them before the stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.errors import CaptureError
from agent.kernel.vm import ProcessMemory
from agent.memory.page_buffer import PageBuffer
from agent.memory.page_ranges import NO_PAGES, PAGE_BYTES, PAGE_SHIFT, Pages, Ranges, count_pages, expand, union
from agent.structures.blocks import BLOCK_BYTES, BLOCK_WORDS, Blocks, Coverage, Rows
from agent.structures.changes import Changes
from agent.structures.finding import Placed
from agent.structures.standstill import Standstill
from agent.structures.update import Original, Update

_SOME: Final = 64
_ROUNDS: Final = 2


class Readable(Protocol):
    """What `take` takes: a variable (`Capture`) or a file."""

    def look(self) -> None: ...

    def copy(self) -> None: ...

    def update(self) -> Update | None: ...


class Capture:
    """One structure of one process, and what its mirrors were last told of it. All methods in one thread.

    original: answers with a whole copy where one is needed.
    """

    def __init__(self, place: Placed, changes: Changes, original: Original) -> None:
        """Takes `changes` over, whose pages must be `pages_of(place)`."""
        structure = place.structure
        self.original = original
        self.name = structure.name
        self._coverage = Coverage(structure.extents, structure.size)
        self._changes = changes
        self._memory = ProcessMemory(place.pid)
        first = place.address >> PAGE_SHIFT
        self._first, self._lead = first, place.address & (PAGE_BYTES - 1)
        # One page more than it has: the last block may end there.
        self._pages = self._coverage.count + 2
        self._raw: NDArray[np.uint8] = np.zeros(self._pages * PAGE_BYTES, np.uint8)
        self._buffer = PageBuffer(self._pages, self._pages)
        self._filled = 0
        self._read: list[Ranges] = []
        self._pending: Pages = NO_PAGES

    def close(self) -> None:
        self._changes.close()
        self._memory.close()

    def look(self) -> None:
        """Read, while the program runs, what changed since the last time: so much less is left for the stop."""
        # A stop that was abandoned may have read something, too.
        self._settle()
        # What is written while the first round is read would make the stop longer; the second one is over at once.
        for _ in range(_ROUNDS):
            self._copy(self._changes.running(), held=False)
            self._settle()

    def copy(self) -> None:
        """Within the stop: read what changed since `look`."""
        self._copy(self._changes.standing(), held=True)

    def update(self) -> Update | None:
        """After the stop: what leads from the last update to what was read; None if nothing changed.

        The first one is whole.
        """
        self._settle()
        blocks = self._blocks(self._pending) if self.original.version else self._coverage.all
        self._pending = NO_PAGES
        return self.original.advance(*self._changed(blocks))

    def _changed(self, blocks: Blocks) -> tuple[Blocks, Rows]:
        """Those of the blocks that mirrors hold otherwise, and their contents; all of them at first."""
        is_first = not self.original.version
        found: list[tuple[Blocks, Rows]] = [(NO_PAGES, np.empty((0, BLOCK_WORDS), np.uint64))]
        # Some at a time: they stay in the processor's caches, and in memory that was touched before.
        for first in range(0, len(blocks), _SOME):
            some = blocks[first : first + _SOME]
            rows = self._rows(some)
            self._coverage.clear(some, rows)
            changed = np.flatnonzero((rows != self.original.rows[some]).any(axis=1) | is_first)
            if len(changed):
                found.append((some[changed], rows[changed]))
        return np.concatenate([one for one, _ in found]), np.concatenate([rows for _, rows in found])

    def _copy(self, of: Ranges, *, held: bool) -> None:
        count = count_pages(of)
        rows = self._buffer.rows[self._filled : self._filled + count]
        if count and len(self._memory.read(of, rows, held=held)):
            raise CaptureError(f"{self.name} of process {self._memory.pid} can't be read any more")
        self._read.append(of)
        self._filled += count

    def _settle(self) -> None:
        """Put what was read into its place."""
        if not self._filled:
            self._read.clear()
            return
        places = self._raw.view(np.uint64).reshape(self._pages, -1)
        row = 0
        for of in self._read:
            pages = expand(of) - np.uint64(self._first)
            places[pages] = self._buffer.rows[row : row + len(pages)]
            row += len(pages)
            self._pending = union((self._pending, pages))
        self._filled = 0
        self._read.clear()

    def _blocks(self, pages: Pages) -> Blocks:
        """The blocks that lie in these pages, counted from the structure's first; each page has the ends of two."""
        if not self._lead:
            return pages[pages < self._coverage.count]
        both = union((pages, pages[pages > 0] - np.uint64(1)))
        return both[both < self._coverage.count]

    def _rows(self, blocks: Blocks) -> Rows:
        whole = self._raw[self._lead : self._lead + self._coverage.count * BLOCK_BYTES].reshape(-1, BLOCK_BYTES)
        rows: Rows = whole[blocks].view(np.uint64)
        return rows


def pages_of(place: Placed) -> Ranges:
    """The pages that hold what is mirrored of a structure."""
    return Coverage(place.structure.extents, place.structure.size).pages(place.address)


def take(captures: Sequence[Readable], standstill: Standstill) -> list[Update]:
    """The updates of several structures of one program, all of one instant; those in which nothing changed have none.

    Raises CheckpointAbandoned and CaptureError; nothing is lost then, and the next one may succeed.
    """
    for one in captures:
        one.look()
    with standstill():
        for one in captures:
            one.copy()
    return [update for one in captures if (update := one.update()) is not None]
