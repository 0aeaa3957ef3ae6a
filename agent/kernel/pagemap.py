"""/proc/PID/pagemap: which pages were written, which exist (PAGEMAP_SCAN, Linux >= 6.7).

Documentation/admin-guide/mm/pagemap.rst. Two walks hide behind one ioctl. The fast one (only WRITTEN asked for and
returned) costs 0.24 ms/GiB, and fills the page tables of whatever it write-protects; the slow one (any other category)
costs 7 to 10 ms/GiB of populated memory and nothing for what was never touched.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import TraceeGone
from agent.kernel.libc import check, ioctl_held
from agent.kernel.procfs import open_file
from agent.memory.page_ranges import NO_RANGES, PAGE_SHIFT, Ranges, collapse, join, merge

Words = NDArray[np.uint64]

WPALLOWED: Final = 1 << 0
WRITTEN: Final = 1 << 1
FILE: Final = 1 << 2
PRESENT: Final = 1 << 3
SWAPPED: Final = 1 << 4
ZERO_PAGE: Final = 1 << 5
HUGE: Final = 1 << 6
GUARD: Final = 1 << 8

_PAGEMAP_SCAN: Final = 3 << 30 | 96 << 16 | ord("f") << 8 | 16
_WP_MATCHING: Final = 1
_CHECK_WPASYNC: Final = 2
_REGIONS: Final = 1 << 14

_ENTRY_PRESENT: Final = np.uint64(1 << 63)
_PRESENT_OR_FILE: Final = np.uint64(1 << 63 | 1 << 61)
_ENTRY_SWAPPED: Final = np.uint64(1 << 62)
_SWAP_TYPE: Final = np.uint64(31)
_MARKER: Final = np.uint64(31)

_REQUEST: Final = struct.Struct("=12Q")
"""struct pm_scan_arg: size, flags, start, end, walk_end, vec, vec_len, max_pages, then the categories: inverted, mask,
any of, returned."""
_WALK_END: Final = struct.Struct("=Q")


class Pagemap:
    """One process's page map. It belongs to the memory that the process had when this was opened: an exec ends it.

    Scans raise TraceeGone when the process has no memory any more.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._file = open_file(pid, "pagemap")
        self._regions = np.zeros((_REGIONS, 3), np.uint64)
        self._request = bytearray(_REQUEST.size)
        self._address = int(np.frombuffer(self._request, np.uint8).ctypes.data)
        self._vector = int(self._regions.ctypes.data)

    def close(self) -> None:
        os.close(self._file)

    def take_written(self, start: int, end: int, *, check_registered: bool) -> Ranges:
        """The ranges written since the last time, which are write-protected again: the fast walk.

        Never touched pages count as written once. check_registered: raise KernelError EPERM when a mapping in
        [start, end) is not registered; what was written in mappings before it is lost then. Without it such mappings
        are passed over.
        """
        flags = _WP_MATCHING | (_CHECK_WPASYNC if check_registered else 0)
        return self._scan(start, end, flags, WRITTEN, 0, WRITTEN)

    def written(self, start: int, end: int, *, check_registered: bool) -> Ranges:
        """Like `take_written`, changing nothing: the same pages count as written again at the next scan.

        Nothing is write-protected, so no processor's translations have to be flushed, and nothing is lost with EPERM.
        """
        return self._scan(start, end, _CHECK_WPASYNC if check_registered else 0, WRITTEN, 0, WRITTEN)

    def take_populated(self, start: int, end: int, *, check_registered: bool) -> Ranges:
        """Like `take_written`, of pages that exist only, without filling page tables: the slow walk.

        Rows: start, end, categories.
        """
        flags = _WP_MATCHING | (_CHECK_WPASYNC if check_registered else 0)
        return self._scan(start, end, flags, WRITTEN, PRESENT | SWAPPED, PRESENT | SWAPPED | FILE | ZERO_PAGE)

    def populated(self, start: int, end: int) -> Ranges:
        """The ranges that exist, with their categories; changes nothing. Markers of absent pages show as SWAPPED."""
        return self._scan(start, end, 0, 0, PRESENT | SWAPPED, PRESENT | SWAPPED | FILE | ZERO_PAGE | GUARD)

    def real(self, found: Ranges, *, own_only: bool) -> Ranges:
        """The ranges that hold content, of a result of `populated` or `take_populated`; ascending and apart.

        own_only: leave out what is a mapped file's own, the program has not changed it. Pages of zeros that were only
        read, and markers of absent pages, are left out always.
        """
        if not len(found):
            return NO_RANGES
        kinds = found[:, 2]
        present = (kinds & np.uint64(PRESENT)) != 0
        wanted = present & ((kinds & np.uint64(ZERO_PAGE)) == 0)
        if own_only:
            wanted &= (kinds & np.uint64(FILE)) == 0
        real = [np.ascontiguousarray(found[wanted, :2])]
        for start, end, _ in found[~present].tolist():
            page = start >> PAGE_SHIFT
            moved = np.flatnonzero(self.is_real(page, (end - start) >> PAGE_SHIFT)).astype(np.uint64)
            if len(moved):
                real.append(collapse(moved + np.uint64(page)))
        return merge(join(real))

    def entries(self, page: int, count: int) -> Words:
        """The 64-bit entries of `count` pages from page number `page` on (fewer at the end of the address space)."""
        data = os.pread(self._file, count * 8, page * 8)
        return np.frombuffer(data, np.uint64)

    def is_real(self, page: int, count: int) -> NDArray[np.bool_]:
        """For each page whether it has content of its own: in memory, swapped out or just being moved.

        An absent page that was write-protected leaves a marker that PAGEMAP_SCAN can't tell from a swapped page; the
        entry's swap type can (the last one is the markers').
        """
        entries = self.entries(page, count)
        swapped = (entries & _ENTRY_SWAPPED) != 0
        real: NDArray[np.bool_] = ((entries & _ENTRY_PRESENT) != 0) | (swapped & ((entries & _SWAP_TYPE) != _MARKER))
        return real

    @property
    def descriptor(self) -> int:
        """The open file, for scans that are prepared elsewhere."""
        return self._file

    def _scan(self, start: int, end: int, flags: int, mask: int, any_of: int, returned: int) -> Ranges:
        request = self._request
        found: list[Ranges] = []
        while start < end:
            _REQUEST.pack_into(
                request, 0, 96, flags, start, end, 0, self._vector, _REGIONS, 0, 0, mask, any_of, returned
            )
            count = ioctl_held(self._file, _PAGEMAP_SCAN, self._address)
            if count == -errno.ESRCH:
                raise TraceeGone(self.pid)  # Its memory has gone with it.
            if count < 0:
                check(count, "PAGEMAP_SCAN", f"process {self.pid} from {start:#x} to {end:#x}")
            if count:
                found.append(self._regions[:count].copy())
            walked: int = _WALK_END.unpack_from(request, 32)[0]
            if walked <= start:
                break
            start = walked
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.empty((0, 3), np.uint64)


class RevertScan:
    """Asks of certain pages, as fast as can be, whether each is still the program's own copy of a file's page."""

    def __init__(self, pagemap: Pagemap, of: Ranges) -> None:
        """of: the ranges, ascending and apart, of private file mappings."""
        self._file = pagemap.descriptor
        self._of = of
        counts = ((of[:, 1] - of[:, 0]) >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        self._first = np.cumsum(counts) - counts
        self._entries = np.zeros(int(counts.sum()), np.uint64)
        view = self._entries.view(np.uint8).data
        places = zip(self._first.tolist(), counts.tolist(), of[:, 0].tolist(), strict=True)
        self._reads = [
            ([view[8 * first : 8 * (first + count)]], 8 * (start >> PAGE_SHIFT)) for first, count, start in places
        ]

    def run(self) -> Ranges:
        """The ranges (of those given) in which a page is no copy any more."""
        file, read = self._file, os.preadv
        self._entries[:] = 0
        for buffers, offset in self._reads:
            read(file, buffers, offset)
        # A file's own page, or none at all, where a copy that is swapped out counts as changed: it is read again.
        reverted = (self._entries & _PRESENT_OR_FILE) != _ENTRY_PRESENT
        if not reverted.any():
            return NO_RANGES
        return self._of[np.add.reduceat(reverted, self._first) > 0]
