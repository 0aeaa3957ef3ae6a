"""Structures of a real program, read between checkpoints of its memory, which take the marks of what was written."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.context.memory import MemoryCapture
from agent.kernel.userfaultfd import Userfaultfd
from agent.memory.image import Image
from agent.primary.samples import Reading, Samples
from agent.structures import standstill
from agent.structures.sampled import locate_sampled
from agent.structures.table import StructureTable
from agent.tracing.prompt import Prompt
from tests.agent.structures.built import ask, built, traced
from tests.agent.traced import STOP_S, Running
from transport.checkpoint import NOTHING, Version

SESSIONS = StructureTable(symbol="g_sessions", exclude=("g_sessions.entries.lock",), interval_ms=10, independent=True)
LEFT = StructureTable(symbol="g_left", interval_ms=20, consistency="none")


@dataclass
class Sampled:
    """A traced program, the capture of its memory, and its samples. now_s: the clock that they are told."""

    program: Running
    memory: MemoryCapture
    samples: Samples
    lost: list[str] = field(default_factory=list)
    version: Version = NOTHING
    record: bytes = b""
    now_s: float = 100.0

    def checkpoint(self) -> None:
        """One of the whole memory."""
        self.samples.renew()
        self.memory.precopy()
        self.program.stop()
        captured = self.memory.copy_stopped()
        self.program.tracee.resume()
        number = self.version.number + 1
        self.record = captured.layout
        for _ in captured.parts(self.memory.image, number):
            pass
        self.version = Version(1, number, number)

    def take(self) -> dict[str, Reading]:
        """What is due after one more interval."""
        self.now_s += 0.05
        return {one.place.structure: one for one in self.samples.take(self.now_s, self.version, self.record)}

    def search(self, *tables: StructureTable) -> None:
        """Look for structures."""
        found, refused = locate_sampled(tables, self.program.pid)
        self.samples.add(found, refused)


@contextmanager
def sampled(program: Path, *tables: StructureTable) -> Iterator[Sampled]:
    """A program of which one checkpoint was taken."""
    with traced(program) as running:
        tracee = running.tracee
        tracee.prepare_remote()
        tracee.stop(time.monotonic() + STOP_S)
        with tracee.remote(next(iter(tracee.threads))) as call:
            uffd = Userfaultfd.inside(call, tracee.pidfd)
        memory = MemoryCapture(tracee.pid, uffd, Image(256 << 20))
        memory.attach()
        tracee.resume()
        for _ in memory.fill(1):
            pass
        samples = Samples(tracee, standstill.by_tracing(tracee, Prompt(None), STOP_S), 1)
        found = Sampled(running, memory, samples)
        samples.lost = found.lost.append
        found.search(*tables)
        found.checkpoint()
        try:
            yield found
        finally:
            samples.close()
            memory.close()


def truth(joined: Sampled, reading: Reading) -> bytes:
    """What is in the structure, read in the simplest way; zeros where it is excluded."""
    with open(f"/proc/{joined.program.pid}/mem", "rb") as file:
        file.seek(reading.place.address)
        content = file.read(reading.place.size)
    counts = bytearray(len(content))
    for first, end in reading.place.extents:
        counts[first:end] = content[first:end]
    return bytes(counts)


def content(reading: Reading) -> bytes:
    """What was read."""
    return reading.original.rows.tobytes()[: reading.place.size]


def test_each_reading_is_what_was_there_however_checkpoints_fall() -> None:
    seed = random.Random(7)
    with sampled(built("sessions.c", "-g"), SESSIONS, LEFT) as joined:
        for _ in range(60):
            for _ in range(seed.randrange(3)):
                ask(joined.program, f"w {seed.randrange(1000)} {seed.randrange(1000)} 0.5")
            ask(joined.program, f"l {seed.randrange(3)}")
            if seed.random() < 0.4:
                joined.checkpoint()
            readings = joined.take()
            assert set(readings) == {"g_sessions", "g_left"}
            for reading in readings.values():
                assert content(reading) == truth(joined, reading)
                assert reading.follows == joined.version
        assert joined.samples.troubles == {}


def test_without_a_full_reading_after_a_checkpoint_something_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Samples, "renew", lambda samples: None)
    with sampled(built("sessions.c", "-g"), SESSIONS) as joined:
        joined.take()
        ask(joined.program, "w 5 1 0.5")
        joined.checkpoint()
        reading = joined.take()["g_sessions"]
        assert content(reading) != truth(joined, reading)


def test_a_reading_that_finds_nothing_new_says_so() -> None:
    with sampled(built("sessions.c", "-g"), SESSIONS) as joined:
        first = joined.take()["g_sessions"]
        assert first.update is not None
        second = joined.take()["g_sessions"]
        assert second.update is None
        assert (second.number, second.original.version) == (first.number + 1, 1)
        assert second.captured_ns > first.captured_ns


def test_what_is_not_due_waits() -> None:
    with sampled(built("sessions.c", "-g"), SESSIONS, LEFT) as joined:
        joined.take()
        assert joined.samples.next_due_s == pytest.approx(joined.now_s + 0.01)
        joined.now_s += 0.012 - 0.05
        assert set(joined.take()) == {"g_sessions"}


def test_pointers_and_locks_are_refused_where_a_takeover_would_go_on_from_them() -> None:
    whole = StructureTable(symbol="g_sessions", interval_ms=10, independent=True)
    with sampled(built("sessions.c", "-g"), whole) as joined:
        assert joined.take() == {}
        assert "g_sessions.entries[].lock is a pthread_mutex_t" in joined.samples.troubles["g_sessions"]
        joined.search(whole.model_copy(update={"independent": False}))
        assert set(joined.take()) == {"g_sessions"}
        assert joined.samples.troubles == {}


def test_shared_memory_is_read_at_its_place_only(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Path("/dev/shm") / f"kagemusha-test-{uuid.uuid4().hex}"
    table = StructureTable(file=str(book), name="book", interval_ms=10, independent=True)
    monkeypatch.setenv("BOOK", str(book))
    try:
        with sampled(built("shared.c"), table) as joined:
            ask(joined.program, "w 7 77")
            assert content(joined.take()["book"])[56:64] == (77).to_bytes(8, "little")
            ask(joined.program, "a")
            assert joined.take() == {}
            assert joined.lost == ["book"]
            assert joined.samples.troubles["book"].startswith("its memory was laid out anew")
            joined.search(table)
            assert joined.samples.troubles["book"] == f"{book} is not mapped by the program"
            joined.checkpoint()
            ask(joined.program, "b")
            joined.search(table)
            assert joined.take() == {}, "the checkpoint has other memory there"
            joined.checkpoint()
            assert content(joined.take()["book"])[56:64] == (77).to_bytes(8, "little")
    finally:
        book.unlink(missing_ok=True)


def test_nothing_is_read_of_a_program_that_replaced_itself_until_its_own_checkpoint() -> None:
    with sampled(built("sessions.c", "-g"), SESSIONS) as joined:
        joined.take()
        joined.samples.forget(joined.version)
        assert joined.lost == ["g_sessions"]
        joined.search(SESSIONS)
        assert joined.take() == {}
        joined.checkpoint()
        reading = joined.take()["g_sessions"]
        assert (reading.original.version, content(reading)) == (2, truth(joined, reading))


def test_one_that_is_too_large_is_refused_with_what_to_do(tmp_path: Path) -> None:
    program = built("sessions.c", "-g", "-DCOUNT=120000", name="large")
    with sampled(program, SESSIONS) as joined:
        why = joined.samples.troubles["g_sessions"]
        assert why.endswith("8 MiB at most can have an interval of their own beside a whole process")
