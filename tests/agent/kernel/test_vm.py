"""Reading and writing another process's pages, also those that the vector calls refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.errors import TraceeGone
from agent.kernel.vm import ProcessMemory
from agent.memory.page_ranges import PAGE_BYTES, PAGE_SHIFT, PAGE_WORDS, ranges
from tests.agent.mirrored import ANONYMOUS, FIXED, PLACE, PRIVATE, READ, SHARED, WRITE
from tests.agent.victim import Puppet, build, running

PAGES = 3000


@pytest.fixture(scope="module")
def puppet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Puppet]:
    directory = tmp_path_factory.mktemp("victims")
    with running([str(build("puppet.c"))], directory) as victim:
        yield victim


@pytest.fixture
def memory(puppet: Puppet) -> Iterator[ProcessMemory]:
    puppet.tell("m", PLACE, PAGES * PAGE_BYTES, READ | WRITE, PRIVATE | ANONYMOUS | FIXED, -1, 0)
    opened = ProcessMemory(puppet.pid)
    yield opened
    opened.close()
    puppet.tell("u", PLACE, PAGES * PAGE_BYTES)


def pattern(
    pages: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    rows = np.empty((len(pages), PAGE_WORDS), np.uint64)
    rows[:] = pages[:, None]
    return rows


@pytest.mark.parametrize("held", [True, False])
def test_scattered_pages_in_more_ranges_than_one_call_takes(memory: ProcessMemory, held: bool) -> None:
    pages = np.arange(0, PAGES, 2, dtype=np.uint64) + np.uint64(PLACE >> PAGE_SHIFT)
    assert not len(memory.write_pages(pages, pattern(pages)))
    out = np.zeros((PAGES, PAGE_WORDS), np.uint64)
    everything = ranges([(PLACE, PLACE + PAGES * PAGE_BYTES)])
    assert not len(memory.read(everything, out, held=held))
    assert (out[::2] == pattern(pages)).all()
    assert not out[1::2].any()
    again = np.ones((len(pages), PAGE_WORDS), np.uint64)
    assert not len(memory.read_pages(pages, again))
    assert (again == pattern(pages)).all()


def test_pages_without_permission_and_pages_that_are_not_there(puppet: Puppet, memory: ProcessMemory) -> None:
    first = PLACE >> PAGE_SHIFT
    pages = np.arange(20, dtype=np.uint64) + np.uint64(first)
    memory.write_pages(pages, pattern(pages))
    puppet.tell("p", PLACE + 3 * PAGE_BYTES, 2 * PAGE_BYTES, 0)
    puppet.tell("p", PLACE + 8 * PAGE_BYTES, PAGE_BYTES, READ)
    puppet.tell("u", PLACE + 12 * PAGE_BYTES, 2 * PAGE_BYTES)
    out = np.ones((20, PAGE_WORDS), np.uint64)
    failed = memory.read(
        ranges([(PLACE, PLACE + 15 * PAGE_BYTES), (PLACE + 15 * PAGE_BYTES, PLACE + 20 * PAGE_BYTES)]), out
    )
    expected = pattern(pages)
    expected[12:14] = 0
    assert (failed - np.uint64(first)).tolist() == [12, 13]
    assert (out == expected).all()
    refused = memory.write_pages(pages, pattern(pages + np.uint64(1)))
    assert (refused - np.uint64(first)).tolist() == [12, 13]
    memory.read(ranges([(PLACE, PLACE + 12 * PAGE_BYTES)]), out)
    assert (out[:12] == pattern(pages[:12] + np.uint64(1))).all(), "private pages are written whatever their protection"


def test_shared_pages_that_may_only_be_read_refuse_to_be_written(puppet: Puppet, memory: ProcessMemory) -> None:
    memfd = puppet.tell("o", 4 * PAGE_BYTES)
    puppet.tell("m", PLACE, 4 * PAGE_BYTES, READ, SHARED | FIXED, memfd, 0)
    pages = np.arange(4, dtype=np.uint64) + np.uint64(PLACE >> PAGE_SHIFT)
    refused = memory.write_pages(pages, pattern(pages))
    assert len(refused) in (0, 4)
    assert not len(memory.read_pages(pages, np.zeros((4, PAGE_WORDS), np.uint64)))


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    with running([str(build("puppet.c"))], tmp_path) as victim:
        victim.tell("m", PLACE, PAGE_BYTES, READ | WRITE, PRIVATE | ANONYMOUS | FIXED, -1, 0)
        memory = ProcessMemory(victim.pid)
    with pytest.raises(TraceeGone):
        memory.read(ranges([(PLACE, PLACE + PAGE_BYTES)]), np.zeros((1, PAGE_WORDS), np.uint64))
    memory.close()
