"""The agent's own copy of a program's memory: what the last checkpoint held, page by page.

A page lives in a slot. The address space is cut into windows of 2 MiB; a window that holds any page gets 512 slots of
one big arena, whatever mappings come and go over it. So a changed mapping moves nothing.

A page is *known* when the image holds its content. A page that was unmapped is not known any more but *remembered*:
if something is mapped there again, a mirror that has not seen the gap must be told that the old content is gone.
"""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import CaptureError
from agent.kernel.vm import Contents
from agent.memory.page_buffer import reserve
from agent.memory.page_ranges import NO_PAGES, NO_RANGES, PAGE_BYTES, PAGE_SHIFT, Mask, Pages, Ranges

WINDOW_PAGES: Final = 512
_WINDOW_SHIFT: Final = np.uint64(9)
_IN_WINDOW: Final = np.uint64(WINDOW_PAGES - 1)
_WINDOW_BYTES: Final = WINDOW_PAGES * PAGE_BYTES
_WINDOWS_OF_SPACE: Final = 1 << 26  # 47 bits of address
_ADDRESS_SHIFT: Final = np.uint64(PAGE_SHIFT + 9)

Slots = NDArray[np.int64]

DENSE_PAGES: Final = 64
"""A window of which so many pages come at once is backed by one huge page; of others only the touched pages exist."""
_SPARSE_WINDOWS: Final = 1 << 15


class Image:
    """Page contents, sparse over a 47-bit address space. Not thread-safe.

    known: bool per slot. changed: uint32 per slot, the number of the checkpoint in which the page last changed.
    """

    def __init__(self, bytes_max: int) -> None:
        """bytes_max: most memory that the copy may take, rounded up to whole windows."""
        dense = max(1, -(-bytes_max // _WINDOW_BYTES))
        self.bytes_max = dense * _WINDOW_BYTES
        self._pools = (_Pool(0, dense), _Pool(dense, dense + max(dense, _SPARSE_WINDOWS)))
        windows = self._pools[1].end
        slots = windows * WINDOW_PAGES
        self._memory, self._arena = reserve(slots, huge=False)
        self._memory.madvise(mmap.MADV_HUGEPAGE, 0, dense * _WINDOW_BYTES)
        self._table_memory, words = reserve(_WINDOWS_OF_SPACE * 4 // PAGE_BYTES, huge=False)
        self._table = words.reshape(-1).view(np.int32)
        """Window of the address space -> its window of the arena plus one; 0: none."""
        self.known = np.zeros(slots, np.bool_)
        self.changed = np.zeros(slots, np.uint32)
        self._remembered = np.zeros(slots, np.bool_)
        self._backed = np.zeros(slots, np.bool_)
        """Whether the slot has been stored to since its memory was last given back."""
        self._origin = np.zeros(windows, np.uint64)
        """Arena window -> window of the address space."""
        self._used = np.zeros(windows, np.bool_)
        self.union_floor = 0
        """`changed_since` is exact for this number and later ones."""
        self._latest = 0
        self._pages_known = 0
        self._pages_sparse = 0

    @property
    def bytes_held(self) -> int:
        """Memory that the contents take now; never more than `bytes_max`."""
        return self._pools[0].used * _WINDOW_BYTES + self._pages_sparse * PAGE_BYTES

    @property
    def pages(self) -> int:
        """How many pages are known."""
        return self._pages_known

    def slots(self, pages: Pages) -> Slots:
        """The slots of pages; windows that are new get theirs. CaptureError when `bytes_max` is reached."""
        windows = pages >> _WINDOW_SHIFT
        at = self._table[windows]
        if not at.all():
            missing, counts = np.unique(windows[at == 0], return_counts=True)
            self._allocate(self._pools[0], missing[counts >= DENSE_PAGES])
            self._allocate(self._pools[1], missing[counts < DENSE_PAGES])
            at = self._table[windows]
        slots: Slots = at.astype(np.int64)
        slots -= 1
        slots *= WINDOW_PAGES
        slots += (pages & _IN_WINDOW).astype(np.int64)
        return slots

    def take(self, slots: Slots, out: Contents) -> None:
        """Copy the contents of slots into the rows of `out`; unknown pages may hold anything."""
        np.take(self._arena, slots, axis=0, out=out, mode="clip")

    def put(self, slots: Slots, new: Contents, number: int) -> None:
        """Store contents, which changed in checkpoint `number`. CaptureError when `bytes_max` is reached."""
        self._latest = max(self._latest, number)
        unbacked = slots[~self._backed[slots]]
        if len(unbacked):
            sparse = int((unbacked >= self._pools[1].start * WINDOW_PAGES).sum())
            self._require_room(sparse * PAGE_BYTES)
            self._pages_sparse += sparse
            self._backed[unbacked] = True
        self._arena[slots] = new
        self._pages_known += len(slots) - int(self.known[slots].sum())
        self.known[slots] = True
        self._remembered[slots] = True
        self.changed[slots] = number

    def read(self, pages: Pages, out: Contents) -> None:
        """Copy the contents of pages into the rows of `out`; unknown pages read as zeros."""
        slots, held = self._locate(pages)
        self.take(slots, out)
        held &= self.known[slots]
        if not held.all():
            out[: len(pages)][~held] = 0

    def forget(self, start_page: int, end_page: int, number: int) -> None:
        """[start_page, end_page) was unmapped in checkpoint `number`: contents go, that they existed is remembered."""
        self._latest = max(self._latest, number)
        windows, _ = self._windows(start_page, end_page)
        if not len(windows):
            return
        slots, pages = self._slots_of(windows)
        doomed = slots[(pages >= np.uint64(start_page)) & (pages < np.uint64(end_page)) & self.known[slots]]
        self._pages_known -= len(doomed)
        self.known[doomed] = False
        empty = windows[~self.known.reshape(-1, WINDOW_PAGES)[windows].any(axis=1)]
        backed = self._backed.reshape(-1, WINDOW_PAGES)
        for window in empty[backed[empty].any(axis=1)].tolist():
            self._memory.madvise(mmap.MADV_DONTNEED, window * _WINDOW_BYTES, _WINDOW_BYTES)
        self._pages_sparse -= int(backed[empty[empty >= self._pools[1].start]].sum())
        backed[empty] = False
        # Windows that were only covered hold nothing to remember.
        self._release(empty[~self._remembered.reshape(-1, WINDOW_PAGES)[empty].any(axis=1)])

    def pages_known(self) -> Pages:
        """All pages whose content is known, ascending."""
        return self._ascending([np.flatnonzero(self.known[part]) + part.start for part in self._parts()])

    def changed_since(self, number: int) -> Pages:
        """The known pages that changed in a later checkpoint than `number`, ascending.

        CaptureError below `union_floor`: a mirror that is so far behind needs all pages.
        """
        if number < self.union_floor:
            raise CaptureError(
                f"what changed since checkpoint {number} is no longer known (since {self.union_floor}: yes)",
                hint="send all pages",
            )
        return self._ascending(
            [np.flatnonzero(self.known[part] & (self.changed[part] > number)) + part.start for part in self._parts()]
        )

    def remembered(self, start: int, end: int) -> Pages:
        """The pages between two addresses that are known, or were known before they were unmapped; ascending."""
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        windows, _ = self._windows(first, last)
        if not len(windows):
            return NO_PAGES
        slots, pages = self._slots_of(windows)
        wanted = self._remembered[slots] & (pages >= np.uint64(first)) & (pages < np.uint64(last))
        found: Pages = pages[wanted]
        return found

    def remembers(self, pages: Pages) -> Mask:
        """For each page whether `remembered` would name it."""
        slots, held = self._locate(pages)
        held &= self._remembered[slots]
        return held

    def cover(self, pages: Pages) -> None:
        """Give the windows of these pages their slots now, so that `covered` names them."""
        self.slots(pages)

    def covered(self, start: int, end: int) -> Ranges:
        """The windows that have slots between two addresses, as ascending ranges of addresses (window-aligned)."""
        windows, origins = self._windows(start >> PAGE_SHIFT, -(-end >> PAGE_SHIFT))
        if not len(windows):
            return NO_RANGES
        found = np.empty((len(origins), 2), np.uint64)
        found[:, 0] = origins << _ADDRESS_SHIFT
        found[:, 1] = (origins + np.uint64(1)) << _ADDRESS_SHIFT
        return found

    def _windows(self, first_page: int, end_page: int) -> tuple[Slots, Pages]:
        """The arena windows that touch [first_page, end_page), and their places in the address space, ascending."""
        used = np.flatnonzero(self._used)
        origins = self._origin[used]
        low, high = first_page >> 9, (end_page + WINDOW_PAGES - 1) >> 9
        found = used[(origins >= np.uint64(low)) & (origins < np.uint64(high))]
        places = self._origin[found]
        order = np.argsort(places)
        return found[order], places[order]

    def _slots_of(self, windows: Slots) -> tuple[Slots, Pages]:
        inner = np.arange(WINDOW_PAGES, dtype=np.int64)
        slots = (windows[:, None] * WINDOW_PAGES + inner).reshape(-1)
        pages = ((self._origin[windows] << _WINDOW_SHIFT)[:, None] + inner.astype(np.uint64)).reshape(-1)
        return slots, pages

    def _locate(self, pages: Pages) -> tuple[Slots, Mask]:
        """Slots without allocating any, and which of them exist (the others are slot 0)."""
        at = self._table[pages >> _WINDOW_SHIFT].astype(np.int64)
        held: Mask = at > 0
        slots = (at - 1) * WINDOW_PAGES + (pages & _IN_WINDOW).astype(np.int64)
        slots[~held] = 0
        return slots, held

    def _parts(self) -> list[slice]:
        """The slots of the windows that were ever used."""
        return [slice(pool.start * WINDOW_PAGES, pool.top * WINDOW_PAGES) for pool in self._pools]

    def _ascending(self, parts: list[Slots]) -> Pages:
        slots = np.concatenate(parts)
        pages: Pages = (self._origin[slots >> 9] << _WINDOW_SHIFT) + (slots & (WINDOW_PAGES - 1)).astype(np.uint64)
        pages.sort()
        return pages

    def _allocate(self, pool: _Pool, windows: Pages) -> None:
        if not len(windows):
            return
        wanted_bytes = len(windows) * _WINDOW_BYTES if pool is self._pools[0] else 0
        if len(windows) > pool.room or self.bytes_held + wanted_bytes > self.bytes_max:
            self._recycle()
        self._require_room(wanted_bytes if len(windows) <= pool.room else self.bytes_max)
        fresh = pool.take(len(windows))
        self._origin[fresh] = windows
        self._used[fresh] = True
        self._table[windows] = np.array(fresh, np.int32) + 1

    def _require_room(self, wanted_bytes: int) -> None:
        if self.bytes_held + wanted_bytes > self.bytes_max:
            raise CaptureError(
                f"the program's memory does not fit into its image of {self.bytes_max >> 20} MiB",
                hint="raise memory_mib_max of the program",
            )

    def _recycle(self) -> None:
        """Take back the windows in which pages are only remembered: states older than the latest can't be served then.

        Covered windows in which nothing was ever known stay: what was found there may be on its way into the image.
        """
        windows = np.flatnonzero(self._used)
        known = self.known.reshape(-1, WINDOW_PAGES)[windows].any(axis=1)
        remembered = self._remembered.reshape(-1, WINDOW_PAGES)[windows].any(axis=1)
        empty = windows[remembered & ~known]
        if len(empty):
            self.union_floor = self._latest
            self._remembered.reshape(-1, WINDOW_PAGES)[empty] = False
            self._release(empty)

    def _release(self, windows: Slots) -> None:
        self._table[self._origin[windows]] = 0
        self._used[windows] = False
        for pool in self._pools:
            pool.free.extend(windows[(windows >= pool.start) & (windows < pool.end)].tolist())


class _Pool:
    """Which windows of one part of the arena are in use."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.top = start
        self.free: list[int] = []

    @property
    def used(self) -> int:
        return self.top - self.start - len(self.free)

    @property
    def room(self) -> int:
        return self.end - self.top + len(self.free)

    def take(self, count: int) -> list[int]:
        """So many windows; there must be room."""
        again = min(count, len(self.free))
        taken = [self.free.pop() for _ in range(again)]
        taken.extend(range(self.top, self.top + count - again))
        self.top += count - again
        return taken
