"""What PAGEMAP_SCAN and userfaultfd say of this process's own memory: the facts that tracking rests on."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from agent.errors import KernelError, TraceeGone
from agent.kernel.libc import attempt
from agent.kernel.pagemap import FILE, PRESENT, SWAPPED, ZERO_PAGE, Pagemap
from agent.kernel.pidfd import open_pidfd
from agent.kernel.procfs import mappings
from agent.kernel.userfaultfd import EPERM, Userfaultfd
from agent.memory.page_ranges import PAGE_BYTES, Ranges

PAGES = 2048


@dataclass
class Memory:
    """Some registered memory of this process; addresses relative to its start."""

    area: mmap.mmap
    start: int
    uffd: Userfaultfd
    pagemap: Pagemap

    @property
    def end(self) -> int:
        return self.start + PAGES * PAGE_BYTES

    def pages(self, found: Ranges) -> list[list[int]]:
        return [[(int(a) - self.start) // PAGE_BYTES, (int(b) - self.start) // PAGE_BYTES] for a, b in found[:, :2]]

    def written(self) -> list[list[int]]:
        return self.pages(self.pagemap.take_written(self.start, self.end, check_registered=True))


@pytest.fixture
def memory() -> Iterator[Memory]:
    area = mmap.mmap(-1, PAGES * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = int(np.frombuffer(area, np.uint8).ctypes.data)
    pidfd = open_pidfd(os.getpid())
    uffd = Userfaultfd.inside(attempt, pidfd)
    os.close(pidfd)
    pagemap = Pagemap(os.getpid())
    uffd.register(start, start + PAGES * PAGE_BYTES)
    yield Memory(area, start, uffd, pagemap)
    uffd.close()
    pagemap.close()


def test_pages_are_written_once_for_each_time_they_are_asked_for(memory: Memory) -> None:
    assert memory.written() == [[0, PAGES]]
    assert memory.written() == []
    memory.area[5 * PAGE_BYTES] = 1
    memory.area[6 * PAGE_BYTES] = 1
    memory.area[70 * PAGE_BYTES] = 1
    assert memory.written() == [[5, 7], [70, 71]]
    assert memory.written() == []
    memory.area[5 * PAGE_BYTES] = 1
    assert memory.written() == [[5, 6]]


def test_markers_of_absent_pages_look_swapped_and_are_told_apart(memory: Memory) -> None:
    memory.area[: 3 * PAGE_BYTES] = b"x" * (3 * PAGE_BYTES)
    memory.written()
    found = memory.pagemap.populated(memory.start, memory.end)
    assert memory.pages(found) == [[0, 3], [3, PAGES]]
    assert [int(kinds) & (PRESENT | SWAPPED | FILE) for kinds in found[:, 2]] == [PRESENT, SWAPPED]
    assert memory.pages(memory.pagemap.real(found, own_only=False)) == [[0, 3]]
    assert memory.pagemap.is_real(memory.start // PAGE_BYTES, 5).tolist() == [True] * 3 + [False] * 2


def test_what_is_given_back_counts_as_written(memory: Memory) -> None:
    memory.area[:] = b"x" * len(memory.area)
    memory.written()
    memory.area.madvise(mmap.MADV_DONTNEED, 0, 1024 * PAGE_BYTES)
    assert memory.written() == [[0, 1024]]
    assert memory.written() == []


def test_a_page_that_was_only_read_is_no_content(memory: Memory) -> None:
    memory.written()
    assert memory.area[9 * PAGE_BYTES] == 0
    assert memory.written() == []
    found = memory.pagemap.populated(memory.start + 9 * PAGE_BYTES, memory.start + 10 * PAGE_BYTES)
    assert int(found[0, 2]) & ZERO_PAGE
    assert not len(memory.pagemap.real(found, own_only=False))


def test_the_slow_walk_sees_only_what_exists(memory: Memory) -> None:
    memory.area[100 * PAGE_BYTES] = 1
    found = memory.pagemap.take_populated(memory.start, memory.end, check_registered=True)
    assert memory.pages(found) == [[100, 101]]
    memory.area[300 * PAGE_BYTES] = 1
    found = memory.pagemap.take_populated(memory.start, memory.end, check_registered=True)
    assert memory.pages(found) == [[300, 301]]


def test_more_regions_than_one_call_returns(memory: Memory) -> None:
    area = mmap.mmap(-1, 80000 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = np.frombuffer(area, np.uint8)
    start = int(view.ctypes.data)
    memory.uffd.register(start, start + len(area))
    memory.pagemap.take_written(start, start + len(area), check_registered=True)
    view[:: 2 * PAGE_BYTES] = 1
    found = memory.pagemap.take_written(start, start + len(area), check_registered=True)
    assert len(found) == 40000
    assert (found[:, 0] == start + np.arange(40000, dtype=np.uint64) * np.uint64(2 * PAGE_BYTES)).all()


def test_unregistered_memory_is_an_error_only_when_asked(memory: Memory) -> None:
    area = mmap.mmap(-1, 4 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = int(np.frombuffer(area, np.uint8).ctypes.data)
    area[0] = 1
    assert not len(memory.pagemap.take_written(start, start + len(area), check_registered=False))
    with pytest.raises(KernelError) as caught:
        memory.pagemap.take_written(start, start + len(area), check_registered=True)
    assert caught.value.errno == EPERM


def test_a_process_that_has_ended_is_gone() -> None:
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        pagemap = Pagemap(process.pid)
        try:
            start = mappings(process.pid)[0].start
            pagemap.populated(start, start + PAGE_BYTES)
            process.kill()
            process.wait()
            with pytest.raises(TraceeGone):
                pagemap.populated(start, start + PAGE_BYTES)
        finally:
            pagemap.close()


def test_memory_that_is_not_there_can_not_be_registered(memory: Memory) -> None:
    with pytest.raises(KernelError, match="userfaultfd registration of memory from 0x1000 to 0x2000"):
        memory.uffd.register(0x1000, 0x2000)
