"""A structure as blocks of 4096 bytes, and which bytes of each are mirrored. Pure.

Blocks: uint64[n] ascending, numbered from the structure's beginning, wherever in a process that is. Rows: uint64[n,
512], one for each block. What is not mirrored (excluded members, the rest of the last block) is zeros in every row.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.memory.page_ranges import PAGE_BYTES, Pages, Ranges, intersect, merge
from agent.structures.shape import Extents

BLOCK_BYTES: Final = PAGE_BYTES
BLOCK_WORDS: Final = BLOCK_BYTES // 8
_FEW: Final = 16
_KEPT_BLOCKS_MAX: Final = 16_384
"""So many blocks (64 MiB) are worth as much memory again, with which holes are cleared fifty times as fast."""

Blocks: TypeAlias = Pages
Rows: TypeAlias = NDArray[np.uint64]


def count_blocks(size: int) -> int:
    """How many blocks a structure of so many bytes has."""
    return -(-size // BLOCK_BYTES)


class Coverage:
    """Which bytes of the blocks are mirrored."""

    def __init__(self, extents: Extents, size: int) -> None:
        """extents: ascending and apart, within [0, size)."""
        self.count = count_blocks(size)
        self.all: Blocks = np.arange(self.count, dtype=np.uint64)
        self._mirrored = extents.astype(np.uint64)
        end = self.count * BLOCK_BYTES
        edges = np.concatenate((np.zeros(1, np.int64), extents.reshape(-1), np.array([end], np.int64))).reshape(-1, 2)
        self._holes: Ranges = np.ascontiguousarray(edges[edges[:, 0] < edges[:, 1]]).astype(np.uint64)
        self._kept: Rows | None = None
        """For a structure with many holes, from the first `clear` on: all bits of what is mirrored."""

    def pages(self, address: int) -> Ranges:
        """The pages, as ranges of addresses, that hold what is mirrored of a structure at `address`."""
        mask = np.uint64(PAGE_BYTES - 1)
        found = self._mirrored + np.uint64(address)
        found[:, 0] &= ~mask
        found[:, 1] = (found[:, 1] + mask) & ~mask
        return merge(found)

    def clear(self, blocks: Blocks, rows: Rows) -> None:
        """Set to zero what is not mirrored in the rows of these blocks."""
        if len(self._holes) > _FEW and self.count <= _KEPT_BLOCKS_MAX:
            if self._kept is None:
                kept = ~_marked(self._holes.astype(np.int64), self.count * BLOCK_BYTES)
                self._kept = (kept.view(np.uint8) * np.uint8(0xFF)).view(np.uint64).reshape(self.count, -1)
            rows &= self._kept[blocks]
            return
        holes = intersect(self._ranges(blocks), self._holes)
        if not len(holes):
            return
        flat = rows.reshape(-1).view(np.uint8)
        if len(holes) <= _FEW:
            for begin, end in self._within_rows(blocks, holes).tolist():
                flat[begin:end] = 0
        else:
            flat[_marked(self._within_rows(blocks, holes), len(flat))] = 0

    def pieces(self, blocks: Blocks, rows: Rows) -> tuple[Ranges, NDArray[np.uint8]]:
        """What is mirrored of these blocks: ranges from the structure's beginning, and their bytes, without gaps."""
        wanted = intersect(self._ranges(blocks), self._mirrored)
        flat = rows.reshape(-1).view(np.uint8)
        if int((wanted[:, 1] - wanted[:, 0]).sum()) < len(flat):
            flat = flat[_marked(self._within_rows(blocks, wanted), len(flat))]
        return wanted, flat

    def _ranges(self, blocks: Blocks) -> Ranges:
        # One range for each block: a range's place among the rows can be told from its block alone.
        found = np.empty((len(blocks), 2), np.uint64)
        np.multiply(blocks, np.uint64(BLOCK_BYTES), out=found[:, 0])
        np.add(found[:, 0], np.uint64(BLOCK_BYTES), out=found[:, 1])
        return found

    def _within_rows(self, blocks: Blocks, pieces: Ranges) -> Extents:
        """Ranges from the structure's beginning, each within one of the blocks, as places in the blocks' rows."""
        inside = pieces[:, 0] // np.uint64(BLOCK_BYTES)
        row = np.searchsorted(blocks, inside).astype(np.int64)
        moved = (row - inside.astype(np.int64)) * BLOCK_BYTES
        found: Extents = pieces.astype(np.int64) + moved[:, None]
        return found


def _marked(places: Extents, size: int) -> NDArray[np.bool_]:
    """A mask of `size` bytes that is true in these ranges, which are ascending and do not overlap."""
    steps = np.zeros(size + 1, np.int8)
    np.add.at(steps, places[:, 0], 1)
    np.add.at(steps, places[:, 1], -1)
    found: NDArray[np.bool_] = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
    return found
