"""Threads are read whole at a stop, cheaply when nothing changed, and as well as can be from a dying program."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.context.record import pack, unpack
from agent.context.threads import PREFIX, ThreadCapture, ThreadRecord, numbers
from agent.kernel import ptrace, wait
from agent.kernel.registers import FS_BASE
from agent.kernel.vm import ProcessMemory
from agent.launch.spawner import Spawner
from agent.tracing.stepping import next_stop
from agent.tracing.stopped import RemoteCall, Stopped
from tests.agent.plain_copy import NUMBER, Original, await_line, build, built, launch, take_over
from transport.checkpoint import Records


class Watched:
    """A stopped program, and how many scopes of injected calls its captures opened."""

    def __init__(self, original: Original) -> None:
        self.original = original
        self.memory = ProcessMemory(original.pid)
        self.scopes = 0

    @contextmanager
    def remote(self, tid: int) -> Iterator[RemoteCall]:
        self.scopes += 1
        with self.original.remote(tid) as call:
            yield call

    def stopped(self, *, dying: bool = False) -> Stopped:
        threads = self.original.threads
        return Stopped(self.original.pid, threads, self.memory.file, -1, self.remote, {}, dying, refresh=False)


@pytest.fixture
def watched(spawner: Spawner, place: Path) -> Iterator[Watched]:
    """Seven threads, at a stop."""
    output = place / "output"
    original = launch(spawner, built("threads"), str(place / "go"), output=output)
    try:
        await_line(output, "ready")
        original.stop()
        watched = Watched(original)
        yield watched
        watched.memory.close()
    finally:
        original.kill()


def _decoded(records: Records) -> dict[int, ThreadRecord]:
    return {number: unpack(ThreadRecord, records[f"{PREFIX}{number}"]) for number in numbers(records)}


def test_every_thread_has_a_record_that_is_what_pack_makes(watched: Watched) -> None:
    records = ThreadCapture(lambda tid: None).capture(watched.stopped())
    found = _decoded(records)
    assert set(found) == set(watched.original.threads.values())
    assert {pack(record) for record in found.values()} == set(records.values())
    assert {record.name for record in found.values()} == {b"threads", *(b"worker-%d" % n for n in range(6))}
    for number, record in found.items():
        assert len(record.registers) == 216
        assert struct.unpack("<i", os.pread(watched.memory.file, 4, record.clear_tid_address))[0] == number
        assert record.robust_list[1] == 24
        assert record.rseq[0] - struct.unpack_from("<Q", record.registers, 8 * FS_BASE)[0] < 4096


def test_what_did_not_change_has_the_same_bytes_and_is_not_asked_for(watched: Watched) -> None:
    capture = ThreadCapture(lambda tid: None)
    first, second = capture.capture(watched.stopped()), capture.capture(watched.stopped())
    assert watched.scopes == 2 * len(first)
    assert first == second == capture.capture(watched.stopped())
    assert watched.scopes == 2 * len(first)


def _kill_and_hold(original: Original) -> None:
    for tid in original.threads:
        ptrace.set_options(tid, ptrace.TRACEEXIT | ptrace.TRACESYSGOOD)
    os.kill(original.pid, signal.SIGKILL)
    for tid in original.threads:
        assert next_stop(tid, "the death").event == wait.EVENT_EXIT


def test_a_dying_program_is_asked_nothing(watched: Watched) -> None:
    capture = ThreadCapture(lambda tid: None)
    before = _decoded(capture.capture(watched.stopped()))
    scopes = watched.scopes
    _kill_and_hold(watched.original)
    after = _decoded(capture.capture(watched.stopped(dying=True)))
    assert watched.scopes == scopes
    for number, record in after.items():
        assert record.clear_tid_address == before[number].clear_tid_address
        assert (record.rseq, record.robust_list) == (before[number].rseq, before[number].robust_list)


def test_threads_first_seen_as_they_die_have_their_addresses_guessed(watched: Watched) -> None:
    known = _decoded(ThreadCapture(lambda tid: None).capture(watched.stopped()))
    _kill_and_hold(watched.original)
    guessed = _decoded(ThreadCapture(lambda tid: None).capture(watched.stopped(dying=True)))
    assert {number: record.clear_tid_address for number, record in guessed.items()} == {
        number: record.clear_tid_address for number, record in known.items()
    }


def test_scheduling_goes_with_the_thread(spawner: Spawner, place: Path) -> None:
    output = place / "output"
    program = launch(spawner, "/bin/sleep", "100", output=output)
    try:
        cpu = max(os.sched_getaffinity(0))
        os.sched_setaffinity(program.pid, {cpu})
        os.setpriority(os.PRIO_PROCESS, program.pid, 7)
        os.sched_setscheduler(program.pid, os.SCHED_BATCH, os.sched_param(0))
        program.stop()
        image = program.image()
        shadow = build(spawner, image)
        program.kill()
        take_over(shadow, image, output)
        shadow.close()
        program = Original(spawner, shadow.pid, shadow.init, seized={shadow.pid})
        assert os.sched_getaffinity(shadow.pid) == {cpu}
        assert os.getpriority(os.PRIO_PROCESS, shadow.pid) == 7
        assert os.sched_getscheduler(shadow.pid) == os.SCHED_BATCH
        assert image.records.keys() >= {f"{PREFIX}{NUMBER}"}
    finally:
        program.kill()
