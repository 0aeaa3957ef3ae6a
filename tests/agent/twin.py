"""A dumb mirror: a dictionary of pages that believes what parts and layouts say, and a comparison with the truth."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from agent.context.layout import Area, Map, Unmap, difference
from agent.context.memory import Captured, Part
from agent.kernel.vm import Contents
from agent.memory.image import Image
from agent.memory.page_ranges import PAGE_SHIFT, PAGE_WORDS, Pages

_REAL = np.uint64(1 << 63)
_FILE = np.uint64(1 << 61)
_ENTRY_CHUNK = 1 << 18


@dataclass
class Twin:
    """pages: page number -> content. layout: the areas that it has mapped."""

    pages: dict[int, bytes] = field(default_factory=dict)
    layout: tuple[Area, ...] = ()

    def apply(self, part: Part) -> None:
        """One part; its base must be what is here, and its pages must ascend."""
        pages, base, new, fresh = part
        assert (pages[1:] > pages[:-1]).all()
        for row, page in enumerate(pages.tolist()):
            here = bytes(4096) if fresh[row] else self.pages[page]
            assert base[row].tobytes() == here, f"page {page:#x}: its base is another"
            self.pages[page] = new[row].tobytes()

    def relayout(self, areas: tuple[Area, ...]) -> None:
        """What a mirror does to its mappings: content goes with what is unmapped or mapped anew."""
        for change in difference(self.layout, areas):
            if isinstance(change, Unmap):
                self._forget(change.start, change.end)
            elif isinstance(change, Map):
                self._forget(change.area.start, change.area.end)
        self.layout = areas

    def take(self, captured: Captured, image: Image, number: int) -> int:
        """A whole checkpoint; gives how many pages it had."""
        self.relayout(captured.areas)
        count = 0
        for part in captured.parts(image, number):
            self.apply(part)
            count += len(part[0])
        return count

    def _forget(self, start: int, end: int) -> None:
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        for page in [page for page in self.pages if first <= page < last]:
            del self.pages[page]


def of_image(image: Image, pages: Pages) -> dict[int, bytes]:
    """What an image holds of some pages."""
    out: Contents = np.empty((len(pages), PAGE_WORDS), np.uint64)
    image.read(pages, out)
    return {page: out[row].tobytes() for row, page in enumerate(pages.tolist())}


def differences(pid: int, areas: tuple[Area, ...], held: dict[int, bytes]) -> list[str]:
    """Where a stopped process's memory is not what `held` says, read in the slowest and simplest way.

    Pages that were written but are not held, and pages that are held and not mapped, count too.
    """
    wrong: list[str] = []
    left = set(held)
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    try:
        for area in areas:
            if area.kind == "special":
                continue
            first, last = area.start >> PAGE_SHIFT, area.end >> PAGE_SHIFT
            mine = {page for page in left if first <= page < last}
            left -= mine
            for page in sorted(mine | _own_pages(pagemap, area)):
                truth = os.pread(memory, 4096, page << PAGE_SHIFT)
                here = held.get(page, bytes(4096))
                if truth != here:
                    kind = "differs" if page in held else "is missing"
                    wrong.append(f"page {page:#x} of {area.path or area.kind} {area.start:#x} {kind}")
    finally:
        os.close(memory)
        os.close(pagemap)
    return wrong + [f"page {page:#x} is held but not mapped" for page in sorted(left)]


def _own_pages(pagemap: int, area: Area) -> set[int]:
    """The pages of an area that are the program's own and no file's."""
    first, last = area.start >> PAGE_SHIFT, area.end >> PAGE_SHIFT
    if last - first > 1 << 20:
        return set()  # Too sparse to be read entry by entry.
    found: set[int] = set()
    for page in range(first, last, _ENTRY_CHUNK):
        entries = np.frombuffer(os.pread(pagemap, 8 * min(_ENTRY_CHUNK, last - page), page * 8), np.uint64)
        own = (entries & _REAL) != 0
        if not (area.shared and area.kind == "object"):
            own &= (entries & _FILE) == 0
        found.update((np.flatnonzero(own) + page).tolist())
    return found
