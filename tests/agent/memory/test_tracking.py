"""No written page is ever missed, whatever a program does to its mappings; each way of losing one has its own test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.context.memory import MemoryCapture
from agent.errors import CheckpointAbandoned, Unsupported
from agent.kernel.libc import NR
from agent.memory.page_ranges import PAGE_BYTES, PAGE_SHIFT
from tests.agent.mirrored import (
    ANONYMOUS,
    DONTNEED,
    GROWS_DOWN,
    GUARD_INSTALL,
    NO_RESERVE,
    PLACE,
    PRIVATE,
    READ,
    REMOVE,
    SHARED,
    WRITE,
    Mirrored,
    mirrored,
)
from tests.agent.twin import Twin, differences, of_image
from tests.agent.victim import build, running

MAY_MOVE, FIXED_MOVE = 1, 2


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("victims")


@pytest.fixture
def victim(built: Path) -> Iterator[Mirrored]:
    with mirrored(built) as running:
        yield running


def page(number: int) -> int:
    return PLACE + number * PAGE_BYTES


def sent(victim: Mirrored, pages: int) -> list[int]:
    """Which of the first `pages` pages at PLACE the next checkpoint carries."""
    captured = victim.stop()
    found = {number for part in captured.parts(victim.image, 9) for number in part[0].tolist()}
    victim.puppet.resume()
    return [number for number in range(pages) if page(number) >> PAGE_SHIFT in found]


def status_kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def test_a_written_page_is_found_and_no_other_of_its_mapping(victim: Mirrored) -> None:
    victim.map(100)
    victim.tell("f", PLACE, 100 * PAGE_BYTES, 5)
    victim.begin()
    victim.checkpoint()
    victim.tell("w", page(17), 1)
    victim.tell("w", page(18), 1)
    victim.tell("w", page(60), 1)
    assert sent(victim, 100) == [17, 18, 60]


def test_a_value_written_again_costs_nothing(victim: Mirrored) -> None:
    victim.map(4)
    victim.tell("w", page(1), 77)
    victim.begin()
    victim.checkpoint()
    victim.tell("w", page(1), 77)
    assert sent(victim, 4) == []


def test_a_mapping_replaced_by_one_that_looks_the_same(victim: Mirrored) -> None:
    victim.map(50)
    victim.tell("f", PLACE, 50 * PAGE_BYTES, 3)
    victim.begin()
    victim.checkpoint()
    before = Path(f"/proc/{victim.puppet.pid}/maps").read_bytes()
    victim.tell("u", PLACE, 50 * PAGE_BYTES)
    victim.map(50)
    victim.tell("w", page(7), 1)
    assert Path(f"/proc/{victim.puppet.pid}/maps").read_bytes() == before
    victim.checkpoint()
    assert victim.capture.tracker.lost_runs == 1
    victim.tell("w", page(8), 1)
    victim.checkpoint()
    assert victim.capture.tracker.lost_runs == 1


def test_a_mapping_replaced_after_it_was_copied_and_before_the_stop(victim: Mirrored) -> None:
    victim.map(8)
    victim.begin()
    victim.checkpoint()
    victim.tell("f", PLACE, 8 * PAGE_BYTES, 9)
    assert victim.capture.precopy() >= 8
    victim.tell("u", PLACE, 8 * PAGE_BYTES)
    victim.map(8)
    victim.checkpoint()
    assert page(3) >> PAGE_SHIFT not in victim.twin.pages or not any(victim.twin.pages[page(3) >> PAGE_SHIFT])


def test_memory_given_back_reads_as_zeros_and_stays_absent(victim: Mirrored) -> None:
    victim.map(600)
    victim.tell("f", PLACE, 600 * PAGE_BYTES, 3)
    victim.begin()
    victim.checkpoint()
    victim.tell("a", PLACE, 500 * PAGE_BYTES, DONTNEED)
    victim.number += 1
    captured = victim.stop()
    assert not len(victim.capture._pagemap.real(victim.capture._pagemap.populated(PLACE, page(500)), own_only=False))
    entries = victim.capture._pagemap.entries(PLACE >> PAGE_SHIFT, 500)
    assert not (entries >> np.uint64(63)).any(), "reading absent pages must not map them"
    victim.twin.take(captured, victim.image, victim.number)
    assert victim.wrong() == []
    victim.puppet.resume()
    victim.checkpoint()


def test_given_back_and_written_again_between_two_looks(victim: Mirrored) -> None:
    victim.map(200)
    victim.tell("f", PLACE, 200 * PAGE_BYTES, 3)
    victim.begin()
    victim.tell("a", PLACE, 100 * PAGE_BYTES, DONTNEED)
    victim.capture.precopy()
    victim.tell("w", page(5), 5)
    victim.tell("f", page(150), 50 * PAGE_BYTES, 8)
    victim.capture.precopy()
    victim.tell("a", page(120), 80 * PAGE_BYTES, DONTNEED)
    victim.checkpoint()


def test_a_heap_that_grows(victim: Mirrored) -> None:
    victim.tell("b", 10 * PAGE_BYTES)
    victim.begin()
    victim.checkpoint()
    top = victim.tell("b", 20 * PAGE_BYTES)
    victim.tell("f", top, 20 * PAGE_BYTES, 4)
    victim.checkpoint()
    victim.tell("b", -15 * PAGE_BYTES)
    victim.tell("w", top, 1)
    victim.checkpoint()
    victim.tell("b", 15 * PAGE_BYTES)
    victim.checkpoint()


def test_memory_that_moves(victim: Mirrored) -> None:
    victim.map(20)
    victim.map(20, at=page(100))
    victim.tell("f", PLACE, 20 * PAGE_BYTES, 4)
    victim.tell("f", page(100), 20 * PAGE_BYTES, 5)
    victim.begin()
    victim.checkpoint()
    victim.tell("r", PLACE, 20 * PAGE_BYTES, 20 * PAGE_BYTES, MAY_MOVE | FIXED_MOVE, page(100))
    victim.checkpoint()
    victim.tell("r", page(100), 20 * PAGE_BYTES, 40 * PAGE_BYTES, MAY_MOVE)
    victim.tell("w", page(139), 5)
    victim.checkpoint()


def test_a_mapping_that_came_since_the_last_stop_can_be_moved_at_any_time(victim: Mirrored) -> None:
    """Registered in part, it could not be: mremap(2) gives EFAULT over such a seam."""
    victim.map(10)
    victim.tell("w", PLACE, 1)
    victim.begin()
    victim.checkpoint()
    victim.tell("u", PLACE, 10 * PAGE_BYTES)
    victim.map(30)
    victim.tell("f", PLACE, 30 * PAGE_BYTES, 4)
    victim.capture.precopy()
    victim.tell("r", PLACE, 30 * PAGE_BYTES, 60 * PAGE_BYTES, MAY_MOVE)
    victim.checkpoint()


def test_pages_without_any_permission_are_read(victim: Mirrored) -> None:
    victim.map(10)
    victim.tell("f", PLACE, 10 * PAGE_BYTES, 4)
    victim.begin()
    victim.tell("f", page(2), 4 * PAGE_BYTES, 6)
    victim.tell("p", page(3), 2 * PAGE_BYTES, 0)
    victim.capture.precopy()
    victim.checkpoint()
    victim.tell("p", page(3), 2 * PAGE_BYTES, READ | WRITE)
    victim.tell("w", page(3), 9)
    victim.tell("p", PLACE, 10 * PAGE_BYTES, 0)
    victim.checkpoint()


def test_guard_pages_and_the_pages_behind_them(victim: Mirrored) -> None:
    victim.map(10)
    victim.tell("f", PLACE, 10 * PAGE_BYTES, 4)
    victim.begin()
    victim.checkpoint()
    victim.tell("a", page(4), 2 * PAGE_BYTES, GUARD_INSTALL)
    victim.tell("f", page(6), 4 * PAGE_BYTES, 6)
    victim.number += 1
    captured = victim.stop()
    victim.twin.take(captured, victim.image, victim.number)
    victim.puppet.resume()
    assert victim.twin.pages[page(6) >> PAGE_SHIFT] == bytes([6]) * PAGE_BYTES
    assert victim.twin.pages[page(3) >> PAGE_SHIFT] == bytes([4]) * PAGE_BYTES


def test_a_sparse_giant_costs_neither_time_nor_page_tables(victim: Mirrored) -> None:
    bytes_ = 64 << 30
    tables = status_kib(victim.puppet.pid, "VmPTE")
    victim.tell("m", PLACE, bytes_, READ | WRITE, PRIVATE | ANONYMOUS | NO_RESERVE | 0x10, -1, 0)
    victim.tell("w", PLACE + (5 << 30), 1)
    victim.begin()
    for at in (0, 5 << 30, (40 << 30) + 123 * PAGE_BYTES, bytes_ - PAGE_BYTES):
        victim.tell("w", PLACE + at, 3)
    victim.capture.precopy()
    victim.tell("a", PLACE, bytes_ // 2, DONTNEED)
    victim.tell("w", PLACE + (50 << 30), 3)
    victim.checkpoint()
    victim.tell("a", PLACE, bytes_, DONTNEED)
    victim.tell("w", PLACE + (41 << 30), 3)
    victim.checkpoint()
    assert status_kib(victim.puppet.pid, "VmPTE") - tables < 2048


def test_a_sparse_giant_replaced_by_one_that_looks_the_same(victim: Mirrored) -> None:
    flags = PRIVATE | ANONYMOUS | NO_RESERVE
    victim.map(1 << 18, flags=flags)
    victim.tell("w", PLACE + (1 << 29), 1)
    victim.begin()
    victim.checkpoint()
    victim.tell("u", PLACE, 1 << 30)
    victim.map(1 << 18, flags=flags)
    victim.tell("w", PLACE + (1 << 28), 1)
    victim.checkpoint()


def test_a_memfd_written_past_the_page_tables(victim: Mirrored) -> None:
    memfd = victim.tell("o", 16 * PAGE_BYTES)
    victim.map(16, flags=SHARED, descriptor=memfd)
    victim.map(8, at=page(100), protection=READ, flags=SHARED, descriptor=memfd, offset=4 * PAGE_BYTES)
    victim.tell("w", page(1), 1)
    victim.begin()
    victim.checkpoint()
    victim.tell("s", memfd, 1234, 5 * PAGE_BYTES)
    victim.checkpoint()
    assert victim.twin.pages[page(5) >> PAGE_SHIFT][:2] == (1234).to_bytes(2, "little")
    assert victim.twin.pages[page(101) >> PAGE_SHIFT] == victim.twin.pages[page(5) >> PAGE_SHIFT]
    victim.tell("a", page(4), 3 * PAGE_BYTES, REMOVE)
    victim.checkpoint()
    assert not any(victim.twin.pages[page(5) >> PAGE_SHIFT])


def test_shared_anonymous_memory(victim: Mirrored) -> None:
    victim.map(64, flags=SHARED | ANONYMOUS)
    victim.tell("f", PLACE, 20 * PAGE_BYTES, 1)
    victim.begin()
    victim.checkpoint()
    victim.tell("w", page(3), 5)
    victim.tell("w", page(33), 5)
    victim.checkpoint()
    victim.tell("a", page(2), 10 * PAGE_BYTES, REMOVE)
    victim.checkpoint()


def test_a_shared_file_that_is_written_while_it_may_not_be_for_a_while(victim: Mirrored, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8 * PAGE_BYTES))
    victim.begin()
    buffer = victim.tell("b", PAGE_BYTES)
    for at, byte in enumerate(str(path).encode()):
        victim.tell("w", buffer + at, byte)
    descriptor = victim.tell("y", NR.OPEN, buffer, 2, 0)
    victim.map(8, flags=SHARED, descriptor=descriptor)
    victim.checkpoint()
    victim.tell("w", page(2), 5)
    victim.tell("p", PLACE, 8 * PAGE_BYTES, READ)
    victim.capture.precopy()
    victim.checkpoint()
    victim.tell("p", PLACE, 8 * PAGE_BYTES, READ | WRITE)
    victim.tell("w", page(3), 5)
    victim.checkpoint()
    assert victim.twin.pages[page(2) >> PAGE_SHIFT][0] == 5
    assert victim.twin.pages[page(3) >> PAGE_SHIFT][0] == 5


def test_a_copy_of_a_files_page_that_is_given_back(victim: Mirrored, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"f" * 8 * PAGE_BYTES)
    buffer = victim.tell("b", PAGE_BYTES)
    for at, byte in enumerate(str(path).encode()):
        victim.tell("w", buffer + at, byte)
    victim.map(8, flags=PRIVATE, descriptor=victim.tell("y", NR.OPEN, buffer, 0, 0))
    victim.tell("f", PLACE, 4 * PAGE_BYTES, 4)
    victim.begin()
    victim.checkpoint()
    victim.tell("a", page(1), PAGE_BYTES, DONTNEED)
    victim.checkpoint()
    assert victim.twin.pages[page(1) >> PAGE_SHIFT] == b"f" * PAGE_BYTES
    victim.tell("w", page(6), 1)
    victim.capture.precopy()
    victim.tell("a", PLACE, 8 * PAGE_BYTES, DONTNEED)
    victim.checkpoint()
    victim.tell("w", page(1), 1)
    victim.checkpoint()


def test_a_stack_that_grows_down(victim: Mirrored) -> None:
    victim.map(4, at=page(1000), flags=PRIVATE | ANONYMOUS | GROWS_DOWN)
    victim.begin()
    victim.checkpoint()
    for down in range(1, 30):
        victim.tell("w", page(1000 - down), down)
    victim.checkpoint()


def test_an_abandoned_checkpoint_loses_nothing(victim: Mirrored) -> None:
    victim.map(9000)
    victim.begin()
    victim.checkpoint()
    victim.tell("f", PLACE, 9000 * PAGE_BYTES, 4)
    victim.tell("a", page(100), 50 * PAGE_BYTES, DONTNEED)
    victim.puppet.stop()
    with pytest.raises(CheckpointAbandoned):
        victim.capture.copy_stopped(deadline_s=0.0)
    victim.puppet.resume()
    victim.capture.precopy()
    victim.stop().abandon()
    victim.puppet.resume()
    assert victim.checkpoint() >= 8950


def test_a_checkpoint_whose_parts_are_not_all_taken_loses_nothing(victim: Mirrored) -> None:
    victim.map(5000)
    victim.begin()
    victim.checkpoint()
    victim.tell("f", PLACE, 5000 * PAGE_BYTES, 4)
    parts = victim.stop().parts(victim.image, 7)
    victim.twin.apply(next(parts))
    parts.close()  # type: ignore[attr-defined]
    victim.puppet.resume()
    victim.checkpoint()


def test_what_was_mapped_and_unmapped_in_between_reaches_a_mirror_that_saw_neither(victim: Mirrored) -> None:
    victim.map(10)
    victim.tell("f", PLACE, 10 * PAGE_BYTES, 4)
    victim.begin()
    victim.checkpoint()
    seen = victim.number
    victim.tell("u", PLACE, 10 * PAGE_BYTES)
    victim.checkpoint()
    assert page(1) >> PAGE_SHIFT not in victim.image.pages_known().tolist()
    victim.map(10)
    victim.checkpoint()
    changed = victim.image.changed_since(seen).tolist()
    assert [number for number in range(10) if page(number) >> PAGE_SHIFT in changed] == list(range(10))


@pytest.mark.parametrize("fill", [True, False])
def test_other_memory_under_the_same_image_as_after_an_exec(victim: Mirrored, built: Path, fill: bool) -> None:
    victim.map(20)
    victim.tell("f", PLACE, 20 * PAGE_BYTES, 4)
    victim.begin()
    victim.checkpoint()
    seen = victim.number
    old = dict(victim.twin.pages)
    with running([str(build("puppet.c"))], built) as other:
        capture = MemoryCapture(other.pid, other.take_uffd(), victim.image)
        after = Mirrored(other, capture, victim.image, number=seen + 1)
        after.map(20)
        after.tell("w", page(3), 1)
        other.stop()
        capture.attach()
        other.resume()
        for part in capture.fill(after.number) if fill else ():
            after.twin.apply(part)
        after.twin.layout = capture.tracker.space.areas if fill else ()
        captured = after.stop()
        after.twin.take(captured, victim.image, after.number)
        areas = after.twin.layout
        assert after.wrong() == []
        # A mirror that held the old memory: what stays mapped by the layouts' difference must be sent, too.
        late = Twin(old, victim.twin.layout)
        late.relayout(areas)
        late.pages.update(of_image(victim.image, victim.image.changed_since(seen)))
        assert differences(other.pid, areas, late.pages) == []
        capture.close()


def test_a_program_with_a_userfaultfd_of_its_own_is_refused(victim: Mirrored) -> None:
    victim.map(10)
    victim.tell("w", PLACE, 1)
    own = victim.tell("y", NR.USERFAULTFD, 1)
    words = victim.tell("b", PAGE_BYTES)
    for at, word in enumerate((0xAA, 0, 0)):
        victim.tell("w", words + 8 * at, word)
    victim.tell("y", NR.IOCTL, own, 0xC018AA3F, words)
    for at, word in enumerate((PLACE, 10 * PAGE_BYTES, 1, 0)):
        victim.tell("w", words + 8 * at, word)
    victim.tell("y", NR.IOCTL, own, 0xC020AA00, words)
    victim.puppet.stop()
    with pytest.raises(Unsupported, match="userfaultfd of its own"):
        victim.capture.attach()
    victim.puppet.resume()
