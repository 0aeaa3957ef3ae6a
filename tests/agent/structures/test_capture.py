"""Real programs: what one writes into its variables, another build of it has in its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from agent.errors import CheckpointAbandoned, TraceeGone
from agent.structures import standstill
from agent.structures.capture import Capture, pages_of, take
from agent.structures.changes import AllChanges, Changes, ProtectedChanges, Watch
from agent.structures.finding import find
from agent.structures.layout import Array, Record
from agent.structures.standstill import Standstill
from agent.structures.update import Copy, Original, Update
from agent.structures.writer import Variable, Writer
from agent.tracing.prompt import Prompt
from tests.agent.structures.built import Victim, ask, built, running, traced
from tests.agent.traced import STOP_S, Running
from transport.delta import PagePartDecoder, PagePartEncoder
from transport.errors import StaleUpdate

LOCK = "g_sessions.entries.lock"
TABLE = ("sessions.c", "-g")
LARGE = (*TABLE, "-DCOUNT=40000", "-DNO_LOCK")
ENCODER, DECODER = PagePartEncoder(), PagePartDecoder()


class Source:
    """A capture of the table of a traced program."""

    def __init__(self, program: Running, *, tracks: bool = True, exclude: tuple[str, ...] = (LOCK,)) -> None:
        self.standstill: Standstill = standstill.by_tracing(program.tracee, Prompt(None), STOP_S)
        self.place = find(program.pid, "g_sessions", exclude=exclude)
        of = pages_of(self.place)
        self.watch = Watch(program.tracee, self.standstill)
        self.changes: Changes = self.watch.changes(of) if tracks else AllChanges(of, "not asked")
        original = Original("g_sessions", self.place.structure.size, ENCODER)
        self.capture = Capture(self.place, self.changes, original)

    def take(self) -> Update | None:
        updates = take([self.capture], self.standstill)
        return updates[0] if updates else None

    def must_take(self) -> Update:
        update = self.take()
        assert update is not None
        return update


@contextlib.contextmanager
def source(program: Running, *, tracks: bool = True, exclude: tuple[str, ...] = (LOCK,)) -> Iterator[Source]:
    found = Source(program, tracks=tracks, exclude=exclude)
    try:
        yield found
    finally:
        found.capture.close()
        found.watch.close()


@contextlib.contextmanager
def target(victim: Victim, exclude: tuple[str, ...] = (LOCK,)) -> Iterator[Writer]:
    """The table of a warm program, which stands still by a signal: this thread traces the other one."""
    place = find(victim.pid, "g_sessions", exclude=exclude)
    found = Writer(
        place.structure, Variable(place), Copy("g_sessions", place.structure.size, DECODER), lambda: paused(victim.pid)
    )
    try:
        yield found
    finally:
        found.close()


def writer_of(pid: int, standing: Standstill, exclude: tuple[str, ...] = (LOCK,)) -> Writer:
    place = find(pid, "g_sessions", exclude=exclude)
    copy = Copy("g_sessions", place.structure.size, DECODER)
    return Writer(place.structure, Variable(place), copy, standing)


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize(
    "other", [("-O2",), ("-g3", "-O1", "-no-pie"), ("-Wl,--section-start=.bss=0x900a40", "-no-pie")]
)
def test_another_build_of_the_program_has_what_this_one_writes(other: tuple[str, ...], tracks: bool) -> None:
    with traced(built(*TABLE)) as program, running(built(*TABLE, *other)) as mirror:
        with source(program, tracks=tracks) as captured, target(mirror) as writer:
            ask(program, "w 7 70 1.25")
            assert writer.apply(captured.must_take())
            assert mirror.tell("d 7") == "70 user70 5 1 5 1.25 1"
            for number in range(1, 40):
                ask(program, f"w {number * 25} {number} 0.5")
                update = captured.must_take()
                assert not update.is_whole
                assert len(update.data) < 1000
                writer.apply(update)
            assert captured.take() is None
            for index in (0, 7, 25, 975, 999):
                assert mirror.tell(f"d {index}") == ask(program, f"d {index}")
            assert not writer.differs()
            # Its locks are its own: nobody has written over one that it holds.
            assert mirror.tell("w 999 1 1") == "ok"


def test_writes_are_tracked_where_the_kernel_can() -> None:
    with traced(built(*TABLE)) as program, source(program) as captured:
        assert isinstance(captured.changes, ProtectedChanges), captured.changes.remark
        captured.must_take()
        captured.take()
        ask(program, "w 500 1 1")
        found = captured.changes.running()
        # The entry's page and the counter's; no other.
        assert sum(end - begin for begin, end in found.tolist()) <= 3 * 4096


def test_every_write_of_a_running_program_arrives() -> None:
    """Two threads, many rounds, every entry changed again and again: the last word is the same on both sides."""
    with traced(built(*TABLE)) as program, running(built(*TABLE)) as mirror:
        with source(program) as captured, target(mirror) as writer:
            ask(program, "c 100")
            for round_ in range(30):
                ask(program, f"f {round_ * 3 + 1}")
                writer.apply(captured.must_take())
                index = round_ * 31 % 990
                assert mirror.tell(f"d {index}").split()[0] == str(round_ * 3 + 1)


@pytest.mark.parametrize("tracks", [True, False])
def test_an_update_is_of_one_instant(tracks: bool) -> None:
    """The program sets the counter, then the last entry's id to the same number: never more than one step apart."""
    with traced(built(*LARGE)) as program, source(program, tracks=tracks, exclude=()) as captured:
        ask(program, "c 0")
        for _ in range(30):
            captured.take()
            count, last = _ends(captured)
            assert last <= count <= last + 1


def _ends(captured: Source) -> tuple[int, int]:
    """The counter, and the last entry's id."""
    content = captured.capture.original.rows.tobytes()[: captured.place.structure.size]
    layout = captured.place.structure.layout
    assert isinstance(layout, Record)
    entries = layout.members[1].type
    assert isinstance(entries, Array)
    last = len(content) - entries.element.size
    return int.from_bytes(content[:8], "little"), int.from_bytes(content[last : last + 8], "little")


def test_what_is_excluded_is_neither_read_nor_written() -> None:
    excluded = (LOCK, "g_sessions.entries.id")
    with traced(built(*TABLE)) as program, running(built(*TABLE)) as mirror:
        mirror.tell("w 3 333 3.5")
        with source(program, exclude=excluded) as captured, target(mirror, excluded) as writer:
            ask(program, "w 3 444 4.5")
            update = captured.must_take()
            writer.apply(update)
            assert mirror.tell("d 3") == "333 user444 5 1 5 4.50 1"
            ask(program, "f 1")
            assert captured.take() is None


def test_a_mirror_that_missed_an_update_says_so_and_takes_a_whole_copy() -> None:
    with traced(built(*TABLE)) as program, running(built(*TABLE)) as mirror:
        with source(program) as captured, target(mirror) as writer:
            writer.apply(captured.must_take())
            ask(program, "w 1 1 1")
            captured.must_take()
            ask(program, "w 2 2 2")
            with pytest.raises(StaleUpdate, match="builds on version 2, and 1 is held"):
                writer.apply(captured.must_take())
            assert writer.apply(captured.capture.original.whole())
            assert not writer.apply(captured.capture.original.whole())
            assert mirror.tell("d 1") == ask(program, "d 1")


def test_a_mirror_that_writes_itself_is_found_out() -> None:
    with traced(built(*TABLE)) as program, running(built(*TABLE)) as mirror:
        with source(program) as captured, target(mirror) as writer:
            writer.apply(captured.must_take())
            assert writer.differs() == []
            mirror.tell("w 0 5 1")
            offsets = [begin for begin, _ in writer.differs()]
            assert offsets[:2] == [0, 8]
            writer.write_all()
            assert writer.differs() == []


def test_a_mirror_that_has_ended_is_not_sound() -> None:
    with traced(built(*TABLE)) as program, source(program) as captured:
        update = captured.must_take()
        with running(built(*TABLE)) as mirror:
            place = find(mirror.pid, "g_sessions", exclude=(LOCK,))
            writer = Writer(
                place.structure, Variable(place), Copy("g_sessions", place.structure.size, DECODER), standstill.none
            )
        with pytest.raises(TraceeGone):
            writer.apply(update)
        assert not writer.is_sound
        writer.close()


def test_an_abandoned_stop_loses_nothing() -> None:
    def refuse() -> AbstractContextManager[None]:
        raise CheckpointAbandoned("not now")

    with traced(built(*TABLE)) as program, running(built(*TABLE)) as mirror:
        with source(program) as captured, target(mirror) as writer:
            writer.apply(captured.must_take())
            ask(program, "w 11 5 1")
            with pytest.raises(CheckpointAbandoned):
                take([captured.capture], refuse)
            writer.apply(captured.must_take())
            assert mirror.tell("d 11") == ask(program, "d 11")


def test_structures_with_pages_in_common_are_tracked_apart() -> None:
    """What one takes note of is not lost to the other, in whatever order they are taken."""
    with traced(built(*TABLE)) as program:
        stops_s: list[float] = []
        standing = standstill.by_tracing(program.tracee, Prompt(None), STOP_S, stops_s.append)
        watch = Watch(program.tracee, standing)
        places = [find(program.pid, name) for name in ("g_left", "g_right")]
        assert places[0].address >> 12 == places[1].address >> 12
        changes = [watch.changes(pages_of(place)) for place in places]
        assert [one.remark for one in changes] == ["", ""]
        captures = [
            Capture(place, one, Original(place.structure.name, place.structure.size, ENCODER))
            for place, one in zip(places, changes, strict=True)
        ]
        assert len(take(captures, standing)) == 2
        stops_s.clear()
        dice = random.Random(7)
        values = [0, 0]
        for number in range(1, 60):
            which = dice.randrange(2)
            values[which] = number
            ask(program, f"{'lr'[which]} {number}")
            for chosen in dice.sample(range(2), dice.randint(1, 2)):
                take([captures[chosen]], standing)
                assert int(captures[chosen].original.rows[0, 0]) == values[chosen]
        assert len(take(captures, standing)) <= 2
        assert [int(one.original.rows[0, 0]) for one in captures] == values
        assert all(0 < one < STOP_S for one in stops_s)
        for one in captures:
            one.close()
        watch.close()


def test_a_mirror_is_written_under_a_stop_by_its_tracer() -> None:
    with traced(built(*TABLE)) as program, source(program) as captured:
        ask(program, "w 1 5 1")
        update = captured.must_take()
    with traced(built(*TABLE, "-O2")) as mirror:
        writer = writer_of(mirror.pid, standstill.by_tracing(mirror.tracee, Prompt(None), STOP_S))
        writer.apply(update)
        assert ask(mirror, "d 1") == "5 user5 5 1 5 1.00 1"
        writer.close()
