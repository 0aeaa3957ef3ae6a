"""Is a shadow the same as its original? Every byte of both is compared while the original stands still.

Pages that exist in neither are equal: they read as zeros, or as the file that both map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.context.layout import EXECUTE, READ, WRITE, Area
from agent.kernel.pagemap import Pagemap
from agent.kernel.vm import ProcessMemory
from agent.memory.address_space import AddressSpace
from agent.memory.page_ranges import (
    PAGE_BYTES,
    PAGE_WORDS,
    Pages,
    Ranges,
    collapse,
    expand,
    intersect,
    join,
    merge,
    ranges,
    union,
)
from agent.memory.shared_objects import SharedObjects

_BLOCK_PAGES: Final = 128
"""Two blocks and their comparison stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One page that is not the same: its number (address >> 12), and the first byte in it that differs."""

    page: int
    offset: int

    def __str__(self) -> str:
        return f"{self.page * PAGE_BYTES + self.offset:#x}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out. differences: of content, ascending. mappings: one line for each that only one of them has."""

    bytes_compared: int
    differences: tuple[Difference, ...]
    mappings: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return not self.differences and not self.mappings


def verify(original: int, shadow: int, *, own: Iterable[tuple[int, int]] = ()) -> Verification:
    """Compare the memory of two processes that both stand still.

    own: address ranges that only the shadow has, by intention. Raises TraceeGone when one of them is gone.
    """
    with _Side(original) as left, _Side(shadow) as right:
        theirs = [area for area in right.areas if not any(a <= area.start and area.end <= b for a, b in own)]
        pages = _pages_of_either(left, right)
        differences = tuple(_compare(left.memory, right.memory, pages))
        return Verification(len(pages) * PAGE_BYTES, differences, tuple(_mappings(left.areas, theirs)))


class _Side:
    """One of the two processes."""

    def __init__(self, pid: int) -> None:
        self.memory = ProcessMemory(pid)
        self._pagemap = Pagemap(pid)
        self._objects = SharedObjects(pid)
        with closing(AddressSpace(pid)) as space:
            space.refresh()
            self.areas = [area for area in space.areas if area.kind != "special"]
        self.mapped = merge(ranges((area.start, area.end) for area in self.areas))

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.close()
        self._pagemap.close()
        self._objects.close()

    def existing(self) -> Iterator[Ranges]:
        """What exists of each area, besides the pages that are a mapped file's own."""
        for area in self.areas:
            if area.kind == "object":
                yield self._objects.extents(area)
            else:
                found = self._pagemap.populated(area.start, area.end)
                yield self._pagemap.real(found, own_only=bool(area.inode))


def _pages_of_either(left: _Side, right: _Side) -> Pages:
    """What exists in one of them and is mapped in both."""
    both = intersect(left.mapped, right.mapped)
    return union(expand(intersect(merge(join(side.existing())), both)) for side in (left, right))


def _compare(left: ProcessMemory, right: ProcessMemory, pages: Pages) -> Iterator[Difference]:
    mine, theirs = (np.zeros((_BLOCK_PAGES, PAGE_WORDS), np.uint64) for _ in range(2))
    unequal = np.zeros((_BLOCK_PAGES, PAGE_WORDS), np.bool_)
    for first in range(0, len(pages), _BLOCK_PAGES):
        block = pages[first : first + _BLOCK_PAGES]
        count, where = len(block), collapse(block)
        unreadable = np.setxor1d(left.read(where, mine), right.read(where, theirs))
        if not np.not_equal(mine[:count], theirs[:count], out=unequal[:count]).any() and not len(unreadable):
            continue
        for row in np.flatnonzero(unequal[:count].any(axis=1) | np.isin(block, unreadable)).tolist():
            bytes_differ = mine[row].view(np.uint8) != theirs[row].view(np.uint8)
            yield Difference(int(block[row]), int(bytes_differ.argmax()))


def _mappings(original: Iterable[Area], shadow: Iterable[Area]) -> Iterator[str]:
    """The mappings that only one has, as lines; how the kernel cuts equal neighbours apart does not matter."""
    mine, theirs = _described(original), _described(shadow)
    yield from (f"only the original has {line}" for (line, _) in mine if (line, _) not in theirs)
    yield from (f"only the shadow has {line}" for (line, _) in theirs if (line, _) not in mine)


def _described(areas: Iterable[Area]) -> dict[tuple[str, int], None]:
    """Lines for a person, each with where in a file or object it begins, relative to its address."""
    found: dict[tuple[str, int], None] = {}
    before: tuple[int, tuple[int, bool, str, int]] | None = None
    start = 0
    for area in areas:
        named = area.kind == "file" and not area.pathless_copy
        shift = area.offset - area.start if named or area.kind == "object" else 0
        about = (area.protection, area.shared, area.path if named else _unnamed(area), shift)
        if before is None or before != (area.start, about):
            if before is not None:
                found[_line(start, *before), before[1][3]] = None
            start = area.start
        before = (area.end, about)
    if before is not None:
        found[_line(start, *before), before[1][3]] = None
    return found


def _unnamed(area: Area) -> str:
    return "a shared object" if area.kind == "object" else ""


def _line(start: int, end: int, about: tuple[int, bool, str, int]) -> str:
    protection, shared, name, _ = about
    rights = "".join(letter if protection & bit else "-" for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE)))
    return f"{start:#x}-{end:#x} {rights}{'s' if shared else 'p'} {name}".rstrip()
