"""The shadow follows a program: its layout, its threads, its descriptors' numbers; and is not seen when it goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from agent.context.layout import Area, encode
from agent.errors import LaunchError, RestoreError, TraceeGone
from agent.kernel import procfs
from agent.kernel.libc import NR
from agent.kernel.namespaces import TimeOffsets
from agent.kernel.vm import Contents
from agent.launch.spawner import Spawner
from agent.memory.page_ranges import Pages
from agent.mirror.shadow import Shadow
from tests.agent.plain_copy import NUMBER, areas_of, launch

_BASE = 1 << 32
_PAGE = 4096


def _memory(first_page: int, pages: int, protection: int = 3, *, flags: tuple[str, ...] = ()) -> Area:
    start = _BASE + first_page * _PAGE
    return Area(start, start + pages * _PAGE, protection, False, "anonymous", flags=flags)


def _object(first_page: int, pages: int, offset_pages: int, protection: int = 3, size_pages: int = 8) -> Area:
    start = _BASE + first_page * _PAGE
    return Area(
        start, start + pages * _PAGE, protection, True, "object", "/memfd:thing", offset_pages * _PAGE, "00:01", 4711,
        size_pages * _PAGE, True,
    )  # fmt: skip


def _mapped(shadow: Shadow) -> list[tuple[int, int, str]]:
    """(start, end, permissions) of what is mapped besides the trampoline; neighbours are joined."""
    found: list[tuple[int, int, str]] = []
    here = shadow.trampoline
    for one in procfs.mappings(shadow.pid):
        if here.address <= one.start < here.end or one.name == "[vsyscall]":
            continue
        if found and found[-1][1] == one.start and found[-1][2] == one.permissions:
            found[-1] = (found[-1][0], one.end, one.permissions)
        else:
            found.append((one.start, one.end, one.permissions))
    return found


def _pages(numbers: range, seed: int) -> tuple[Pages, Contents]:
    pages = np.arange(numbers.start, numbers.stop, dtype=np.uint64) + np.uint64(_BASE >> 12)
    return pages, np.random.default_rng(seed).integers(0, 1 << 64, (len(pages), 512), np.uint64)


def test_it_has_the_ids_and_the_mappings_and_nothing_else(blank: Shadow) -> None:
    status = procfs.status(blank.pid)
    assert status.namespace_pids[-1] == NUMBER
    assert _mapped(blank) == [(_BASE, _BASE + 16 * _PAGE, "rw-p")]
    assert procfs.descriptors(blank.pid) == []


def test_its_mappings_follow_and_what_stays_keeps_its_content(blank: Shadow) -> None:
    pages, contents = _pages(range(16), 1)
    assert not len(blank.write_pages(pages, contents))
    layout = [_memory(0, 4), _memory(4, 4, 1), _memory(12, 4), _memory(20, 2, 0), _memory(30, 2, 7)]
    blank.apply_layout(layout)
    assert _mapped(blank) == [
        (_BASE, _BASE + 4 * _PAGE, "rw-p"),
        (_BASE + 4 * _PAGE, _BASE + 8 * _PAGE, "r--p"),
        (_BASE + 12 * _PAGE, _BASE + 16 * _PAGE, "rw-p"),
        (_BASE + 20 * _PAGE, _BASE + 22 * _PAGE, "---p"),
        (_BASE + 30 * _PAGE, _BASE + 32 * _PAGE, "rwxp"),
    ]
    kept = np.r_[0:8, 12:16]
    out = np.zeros((len(kept), 512), np.uint64)
    assert not len(blank.read_pages(pages[kept], out))
    assert np.array_equal(out, contents[kept])


def test_pages_without_permissions_are_written(blank: Shadow) -> None:
    blank.apply_layout([_memory(0, 4, 1), _memory(4, 4, 0)])
    pages, contents = _pages(range(8), 2)
    assert not len(blank.write_pages(pages, contents))
    out = np.zeros_like(contents)
    assert not len(blank.read_pages(pages, out))
    assert np.array_equal(out, contents)


def test_an_object_is_one_however_often_it_is_mapped(blank: Shadow) -> None:
    blank.apply_layout([_object(0, 8, 0), _object(10, 4, 4, 1)])
    number = blank.shared_object(os.makedev(0, 1), 4711)
    assert number is not None
    assert number >= blank.table.floor
    pages, contents = _pages(range(10, 14), 3)
    assert not len(blank.write_pages(pages, contents))
    out = np.zeros_like(contents)
    blank.read_pages(pages - np.uint64(6), out)
    assert np.array_equal(out, contents)
    assert procfs.read_link(blank.pid, f"fd/{number}") == "/memfd:thing (deleted)"
    # It grows with its mappings, keeps its content, and goes when nothing maps it any more.
    blank.apply_layout([_object(4, 4, 4), _object(100, 16, 0, size_pages=16)])
    blank.read_pages(pages - np.uint64(6), out)
    assert np.array_equal(out, contents)
    assert os.stat(f"/proc/{blank.pid}/fd/{number}").st_size == 16 * _PAGE
    blank.apply_layout([_memory(0, 1)])
    assert procfs.descriptors(blank.pid) == []
    assert blank.table.spares == set()


def test_the_trampoline_makes_way(blank: Shadow) -> None:
    pages, contents = _pages(range(16), 4)
    blank.write_pages(pages, contents)
    before = blank.trampoline
    taken = Area(before.address, before.address + 64 * _PAGE, 3, False, "anonymous")
    blank.apply_layout([_memory(0, 16), taken])
    assert not blank.trampoline.overlaps([(taken.start, taken.end)])
    assert _mapped(blank)[-1] == (taken.start, taken.end, "rw-p")
    assert len(_mapped(blank)) == 2
    out = np.zeros_like(contents)
    blank.read_pages(pages, out)
    assert np.array_equal(out, contents)
    assert not any(blank.read(taken.start, 64 * _PAGE))


def test_threads_come_and_go_with_their_numbers(blank: Shadow) -> None:
    for wanted in ([NUMBER, 100, 300, 200], [NUMBER, 200], [NUMBER, 100, 101, 200], [NUMBER]):
        blank.set_threads(wanted)
        assert set(blank.threads) == set(wanted)
        found = {procfs.namespace_tid(blank.pid, tid): tid for tid in procfs.tasks(blank.pid)}
        assert found == blank.threads
        assert {procfs.status(blank.pid, tid).state for tid in found.values()} == {"t"}


def test_a_program_without_its_main_thread_is_refused(blank: Shadow) -> None:
    with pytest.raises(RestoreError, match="main thread of process 77 has ended"):
        blank.set_threads([100])


def test_its_own_descriptors_move_above_the_programs(blank: Shadow) -> None:
    blank.apply_layout([_object(0, 8, 0)])
    before = blank.shared_object(os.makedev(0, 1), 4711)
    blank.make_room_for_descriptors(3000)
    after = blank.shared_object(os.makedev(0, 1), 4711)
    assert before is not None
    assert after is not None
    assert before <= 3000 < after
    assert procfs.descriptors(blank.pid) == [after]


def test_its_clocks_are_ahead_as_asked(spawner: Spawner) -> None:
    shadow = Shadow.create(spawner, NUMBER, [_memory(0, 1)], TimeOffsets(5_000_000_000, 7_000_000_123))
    try:
        own, theirs = (Path(f"/proc/{pid}/timens_offsets").read_text().split() for pid in ("self", shadow.pid))
        ahead = [int(theirs[at]) - int(own[at]) for at in (1, 4)]
        assert ahead == [5, 7]
    finally:
        shadow.destroy()


def test_the_vdso_stands_where_the_program_has_it(spawner: Spawner, place: Path) -> None:
    original = launch(spawner, "/bin/sleep", "100", output=place / "output")
    try:
        layout = areas_of(original.pid)
        shadow = Shadow.create(spawner, NUMBER, layout, None)
        try:
            theirs, own = (
                {one.name: (one.start, one.end) for one in procfs.mappings(pid) if one.name.startswith("[v")}
                for pid in (original.pid, shadow.pid)
            )
            assert theirs == own
            assert "[vdso]" in own
            assert encode(shadow.layout) == encode(layout)
        finally:
            shadow.destroy()
    finally:
        original.kill()


def test_what_can_not_be_mapped_is_named_and_nothing_stays(spawner: Spawner) -> None:
    missing = Area(_BASE, _BASE + _PAGE, 1, False, "file", "/nowhere/library.so", 0, "08:01", 12, _PAGE)
    before = set(os.listdir("/proc"))
    with pytest.raises(RestoreError, match=r"open of /nowhere/library.so in the shadow: No such file"):
        Shadow.create(spawner, NUMBER, [missing], None)
    ours = [pid for pid in set(os.listdir("/proc")) - before if pid.isdigit() and _is_stub(pid)]
    assert ours == []


def _is_stub(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[3] == str(os.getpid())
    except OSError:
        return False


def test_a_shadow_that_was_killed_is_noticed_and_reaped(blank: Shadow) -> None:
    os.kill(blank.pid, signal.SIGKILL)
    batch = blank.batch()
    batch.add(NR.GETPID)
    with pytest.raises(TraceeGone):
        batch.run()


def test_without_a_spawner_there_is_no_shadow() -> None:
    with pytest.raises(LaunchError):
        Shadow.create(Spawner(), NUMBER, [], None)
