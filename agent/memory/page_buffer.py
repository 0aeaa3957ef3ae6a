"""Room for pages: big anonymous memory that is reserved once, touched before it is needed, and backed by huge pages.

Writing to memory that was never touched costs thirty times as much as writing to touched memory, and the program may be
standing still meanwhile.
"""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np

from agent.errors import CaptureError
from agent.kernel.vm import Contents
from agent.memory.page_ranges import PAGE_BYTES, PAGE_WORDS

_MAP_NORESERVE: Final = 0x4000
_MIB: Final = 1 << 20


def reserve(pages: int, *, huge: bool = True) -> tuple[mmap.mmap, Contents]:
    """Address space for so many pages of zeros; takes memory only where it is touched; children don't inherit it."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        memory = mmap.mmap(-1, pages * PAGE_BYTES, flags=flags)
    except OSError as error:
        raise CaptureError(
            f"no address space for {pages * PAGE_BYTES // _MIB} MiB: {error.strerror}",
            hint="raise RLIMIT_AS of the agent, or set vm.overcommit_memory to 0 or 1",
        ) from error
    if huge:
        memory.madvise(mmap.MADV_HUGEPAGE)
    memory.madvise(mmap.MADV_DONTFORK)
    return memory, np.frombuffer(memory, np.uint64).reshape(-1, PAGE_WORDS)


class PageBuffer:
    """Rows of one page each that grow by touching more of a reserved range: growing never copies and never moves."""

    def __init__(self, pages_max: int, pages: int = 1024) -> None:
        self._memory, self.rows = reserve(pages_max)
        self.touched = 0
        self.need(pages)

    def need(self, pages: int) -> None:
        """Make sure that the first `pages` rows are touched; at least doubles. CaptureError beyond what is reserved."""
        if pages <= self.touched:
            return
        if pages > len(self.rows):
            raise CaptureError(
                f"{pages * PAGE_BYTES // _MIB} MiB changed at once; a checkpoint may hold"
                f" {len(self.rows) * PAGE_BYTES // _MIB} MiB",
                hint="raise the memory limit of the image",
            )
        target = min(max(pages, 2 * self.touched), len(self.rows))
        self.rows[self.touched : target, 0] = 0
        self.touched = target

    @property
    def touched_bytes(self) -> int:
        """Memory that this buffer takes."""
        return self.touched * PAGE_BYTES
