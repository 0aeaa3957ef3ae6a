"""All structures of a program: what goes wrong with one is said in a line, and the others go on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.errors import CheckpointAbandoned, TraceeGone
from agent.structures import standstill
from agent.structures.capture import Capture, pages_of, take
from agent.structures.changes import AllChanges
from agent.structures.finding import find
from agent.structures.locating import locate
from agent.structures.reception import Reception
from agent.structures.report import Declaration, Refusal, Resync
from agent.structures.standstill import Standstill
from agent.structures.supply import Supply
from agent.structures.table import StructureTable
from agent.structures.update import Applied, Original, Update
from agent.tracing.program_event import Dying, Exited
from agent.tracing.prompt import Prompt
from tests.agent.structures.built import Victim, ask, built, running, traced
from tests.agent.traced import STOP_S, Running
from transport.delta import PagePartEncoder

PROGRAM = ("sessions.c", "-g")
SESSIONS = StructureTable(symbol="g_sessions", exclude=("g_sessions.entries.lock",))
OTHER = StructureTable(symbol="misalign", name="other", interval_ms=1000, consistency="none")


@dataclass
class Pair:
    """A traced program and a warm one, and what joins them. now_s: the clock that the supply is told."""

    program: Running
    mirror: Victim
    supply: Supply
    reception: Reception
    told: list[Refusal]
    now_s: float = 100.0
    sent: list[Update] = field(default_factory=list)

    def take(self) -> list[Update]:
        """The updates of one interval."""
        self.now_s += 0.05
        self.sent = self.supply.take(self.now_s)
        return self.sent

    def round(self) -> list[object]:
        """The mirror's answers to the updates of one interval."""
        return [self.reception.apply(update) for update in self.take()]


@contextlib.contextmanager
def pair(*tables: StructureTable, build: tuple[str, ...] = PROGRAM, stop: Standstill | None = None) -> Iterator[Pair]:
    with traced(built(*PROGRAM)) as program, running(built(*build)) as mirror:
        told: list[Refusal] = []
        own = standstill.by_tracing(program.tracee, Prompt(None), STOP_S)
        located, refused = locate(tables, program.pid)
        told += refused
        supply = Supply(located, program.tracee, own, interval_ms=50, token=3, told=told.append)
        there, refused = locate(tables, mirror.pid)
        reception = Reception(there, stop or standstill.none)
        assert reception.refusals == []
        reception.refusals += refused
        yield Pair(program, mirror, supply, reception, told)
        supply.close()
        reception.close()


def declare(joined: Pair) -> list[Refusal]:
    return [refusal for one in joined.supply.declarations if (refusal := joined.reception.compare(one)) is not None]


def test_a_mirror_of_another_build_follows() -> None:
    with pair(SESSIONS, OTHER, build=("sessions.c", "-g", "-O2")) as joined:
        assert declare(joined) == []
        ask(joined.program, "w 5 50 0.5")
        first = joined.round()
        assert [type(one) for one in first] == [Applied, Applied]
        assert joined.mirror.tell("d 5") == ask(joined.program, "d 5")
        for number in range(10):
            ask(joined.program, f"w 6 {number} 0.5")
            [answer] = joined.round()
            assert isinstance(answer, Applied)
            assert answer.version == number + 2
            assert joined.reception.holds["g_sessions"] == (answer.version, answer.state)
        assert joined.mirror.tell("d 6") == ask(joined.program, "d 6")
        assert joined.told == []
        assert joined.round() == []


def test_each_structure_has_its_own_interval() -> None:
    with pair(SESSIONS, OTHER) as joined:
        assert len(joined.take()) == 2
        assert joined.supply.next_due_s == pytest.approx(joined.now_s + 0.05)
        ask(joined.program, "w 1 1 1")
        assert joined.supply.take(joined.now_s + 0.01) == []
        assert [one.structure for one in joined.take()] == ["g_sessions"]


def test_what_is_not_there_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    tables = (
        StructureTable(symbol="g_sesions"),
        StructureTable(symbol="g_sessions", name="locked"),
        StructureTable(symbol="misalign", name="wrong", exclude=("misalign.lock",)),
        StructureTable(file=str(tmp_path / "absent")),
        StructureTable(python="engine:BOOK"),
        SESSIONS,
    )
    with pair(*tables) as joined:
        said = [one.what for one in joined.told]
        assert said[0].startswith("there is no variable g_sesions in /")
        assert said[1].startswith("g_sessions.entries[].lock is a pthread_mutex_t")
        assert said[2] == 'exclude "misalign.lock": misalign[] has no member lock'
        assert said[3].endswith("absent: No such file or directory")
        assert len(said) == 4
        assert [one.what for one in joined.reception.refusals] == said
        declare(joined)
        assert [type(one) for one in joined.round()] == [Applied]


def test_a_structure_over_its_limit_is_told() -> None:
    with running(built("table.c", "-g", "-DMIB=2")) as program:
        located, refused = locate([StructureTable(symbol="g_table", size_mib_max=1)], program.pid)
        assert located == []
        assert [one.what for one in refused] == ["g_table has 2.0 MiB, more than size_mib_max = 1"]


def test_a_file_that_changed_since_it_was_located_is_told(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_bytes(bytes(9000))
    with traced(built(*PROGRAM)) as program:
        located, _ = locate([StructureTable(file=str(path))], program.pid)
        path.write_bytes(bytes(9001))
        told: list[Refusal] = []
        supply = Supply(located, program.tracee, standstill.none, interval_ms=50, token=1, told=told.append)
        reception = Reception(located, standstill.none)
        assert [one.what for one in (*told, *reception.refusals)] == [f"{path} has 9001 bytes, and had 9000"] * 2
        assert supply.next_due_s is None
        supply.close()
        reception.close()


def test_another_layout_is_refused_and_nothing_of_it_is_written() -> None:
    with pair(SESSIONS, OTHER, build=("sessions.c", "-g", "-DOTHER_LAYOUT")) as joined:
        [refusal] = declare(joined)
        assert refusal.code == "type-mismatch"
        assert refusal.what.endswith("g_sessions.entries[].note is not there on the other side")
        joined.mirror.tell("w 5 55 1")
        answers = joined.round()
        assert [type(one) for one in answers] == [Refusal, Applied]
        assert joined.mirror.tell("d 5").startswith("55 user55")
        assert joined.reception.holds.keys() == {"other"}


def test_a_file_that_is_removed_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_bytes(bytes(9000))
    with pair(StructureTable(file=str(path)), SESSIONS) as joined:
        declare(joined)
        assert len(joined.round()) == 2
        path.unlink()
        ask(joined.program, "w 1 1 1")
        assert [type(one) for one in joined.round()] == [Applied]
        assert [(one.structure, one.code) for one in joined.told] == [("book", "lost")]
        joined.take()
        assert len(joined.told) == 1


def test_a_lost_update_is_made_up_for_by_one_whole_copy() -> None:
    with pair(SESSIONS) as joined:
        declare(joined)
        joined.round()
        for number in range(3):
            ask(joined.program, f"w {number} 1 1")
            joined.take()
        [late] = joined.sent
        answer = joined.reception.apply(late)
        assert isinstance(answer, Resync)
        assert answer.version == 1
        assert joined.reception.apply(late) is None
        whole = joined.supply.whole("g_sessions")
        assert whole is not None
        assert isinstance(joined.reception.apply(whole), Applied)
        assert joined.mirror.tell("d 2") == ask(joined.program, "d 2")
        ask(joined.program, "w 9 9 9")
        assert [type(one) for one in joined.round()] == [Applied]


def test_an_update_of_a_former_primary_is_refused() -> None:
    with pair(SESSIONS) as joined:
        declare(joined)
        joined.round()
        ask(joined.program, "w 1 1 1")
        [update] = joined.take()
        old = replace(update, token=2)
        answer = joined.reception.apply(old)
        assert isinstance(answer, Refusal)
        assert answer.code == "stale-token"
        assert isinstance(joined.reception.apply(update), Applied)


def test_an_update_of_a_structure_that_was_not_compared_is_refused() -> None:
    with pair(SESSIONS) as joined:
        [answer] = joined.round()
        assert isinstance(answer, Refusal)
        assert answer.code == "unknown-structure"


def test_a_mirror_that_can_not_stand_still_is_written_with_the_whole_copy() -> None:
    outcomes = iter([False, True, False, True])

    def now_and_then() -> AbstractContextManager[None]:
        if not next(outcomes):
            raise CheckpointAbandoned("a thread moves")
        return contextlib.nullcontext()

    with pair(SESSIONS, stop=now_and_then) as joined:
        declare(joined)
        [answer] = joined.round()
        assert isinstance(answer, Resync)
        assert joined.reception.holds == {}
        whole = joined.supply.whole("g_sessions")
        assert whole is not None
        assert isinstance(joined.reception.apply(whole), Applied)
        ask(joined.program, "w 1 1 1")
        [answer] = joined.round()
        assert isinstance(answer, Resync)
        assert joined.reception.holds == {}
        ask(joined.program, "w 2 2 2")
        # The next update writes everything that the one before did not.
        assert [type(one) for one in joined.round()] == [Applied]
        assert joined.mirror.tell("d 1") == ask(joined.program, "d 1")


def test_nothing_of_a_killed_program_is_lost() -> None:
    with pair(SESSIONS, OTHER) as joined:
        declare(joined)
        joined.round()
        ask(joined.program, "c 0")
        joined.round()
        ask(joined.program, "w 7 77 7.5")
        said = ask(joined.program, "d 7").split()[:-1]
        os.kill(joined.program.pid, signal.SIGKILL)
        joined.program.await_event(Dying)
        answers = [joined.reception.apply(update) for update in joined.supply.take_last()]
        assert [type(one) for one in answers] == [Applied]
        assert joined.mirror.tell("d 7").split()[:-1] == said
        joined.program.tracee.release_dying()
        joined.program.await_event(Exited)
        with pytest.raises(TraceeGone):
            joined.supply.take_last()


def test_a_mirror_can_be_looked_at_by_name() -> None:
    with pair(SESSIONS, OTHER) as joined:
        declare(joined)
        ask(joined.program, "w 2 22 2.5")
        joined.round()
        value = joined.reception.value("g_sessions")
        assert isinstance(value, dict)
        assert value["count"] == 1
        assert isinstance(value["entries"], list)
        assert value["entries"][2] == {
            "id": 22,
            "user": "user22",
            "state": "ACTIVE",
            "urgent": 1,
            "level": 5,
            "balance": 2.5,
            "lock": None,
        }
        assert joined.reception.value("other") == [1, 0, 0, 0, 0, 0, 0]
        with pytest.raises(KeyError):
            joined.reception.value("absent")


def test_a_mirror_that_works_on_its_structures_is_told_by_the_member() -> None:
    with pair(SESSIONS) as joined:
        declare(joined)
        joined.round()
        assert joined.reception.look_for_divergence() == []
        joined.mirror.tell("f 9")
        [refusal] = joined.reception.look_for_divergence()
        assert refusal.code == "diverged"
        assert refusal.what == "g_sessions.entries[0].id was changed by the mirror's own program, and 15 more places"
        assert joined.reception.holds == {}
        ask(joined.program, "w 2 22 2.5")
        joined.round()
        assert joined.mirror.tell("d 1") == ask(joined.program, "d 1")
        assert joined.reception.look_for_divergence() == []


def test_after_a_promotion_other_mirrors_go_on_with_what_they_hold() -> None:
    """The mirror becomes the primary of a third program, which holds the same already."""
    with traced(built(*PROGRAM)) as second, running(built(*PROGRAM)) as third:
        receptions = [Reception(locate([SESSIONS], one.pid)[0], standstill.none) for one in (second, third)]
        with running(built(*PROGRAM)) as first:
            first.tell("w 1 11 1")
            place = find(first.pid, "g_sessions", exclude=SESSIONS.exclude)
            original = Original("g_sessions", place.structure.size, PagePartEncoder(), token=3)
            capture = Capture(place, AllChanges(pages_of(place), ""), original)
            [update] = take([capture], standstill.none)
            capture.close()
        for one in receptions:
            assert one.compare(Declaration.of(place.structure)) is None
            assert isinstance(one.apply(update), Applied)
        own = standstill.by_tracing(second.tracee, Prompt(None), STOP_S)
        located, _ = locate([SESSIONS], second.pid)
        told: list[Refusal] = []
        copies = receptions[0].copies
        promoted = Supply(located, second.tracee, own, interval_ms=50, token=4, told=told.append, copies=copies)
        whole = promoted.whole("g_sessions")
        assert whole is not None
        assert receptions[1].apply(whole) == Applied("g_sessions", 1, whole.state)
        assert promoted.take(1.0) == []
        ask(second, "w 2 22 2")
        [update] = promoted.take(2.0)
        assert len(update.data) < 500
        assert isinstance(receptions[1].apply(update), Applied)
        assert third.tell("d 1") == ask(second, "d 1")
        assert third.tell("d 2") == ask(second, "d 2")
        assert told == []
        promoted.close()
        for one in receptions:
            one.close()


def test_two_structures_of_one_name_are_refused() -> None:
    with running(built(*PROGRAM)) as program:
        tables = [SESSIONS, StructureTable(symbol="g_left", name="g_sessions")]
        located, refused = locate(tables, program.pid)
        assert [one.name for one in located] == ["g_sessions"]
        assert [one.what for one in refused] == ["two structures are called g_sessions"]


def test_an_end_of_the_mirrors_program_is_told() -> None:
    with pair(SESSIONS) as joined:
        declare(joined)
        with running(built(*PROGRAM)) as short:
            reception = Reception(locate([SESSIONS], short.pid)[0], standstill.none)
            for one in joined.supply.declarations:
                reception.compare(one)
        [update] = joined.take()
        with pytest.raises(TraceeGone):
            reception.apply(update)
        assert reception.holds == {}
        reception.close()
