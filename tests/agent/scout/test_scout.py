"""The scout: what it finds is what was written, and without it everything goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.memory.page_ranges import LONG_BYTES, PAGE_BYTES, PAGE_SHIFT, Ranges, count_pages, expand
from agent.memory.sighting import Sighting
from agent.scout.board import ROWS_MAX
from agent.scout.scout import REST_QUESTIONS, Question, Scout
from tests.agent.mirrored import DONTNEED, PLACE, Mirrored, mirrored
from tests.agent.scouting import PatientScout

LONG_PAGES = LONG_BYTES // PAGE_BYTES


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("victims")


@pytest.fixture
def scout() -> Iterator[PatientScout]:
    scout = PatientScout()
    with scout:
        yield scout


@pytest.fixture
def victim(built: Path, scout: PatientScout) -> Iterator[Mirrored]:
    with mirrored(built, scout=scout) as running:
        yield running


def page(number: int) -> int:
    return PLACE + number * PAGE_BYTES


def question(victim: Mirrored) -> Question:
    return Question(victim.capture.tracker.runs, victim.capture.tracker.private, ())


def sighting(victim: Mirrored, scout: Scout) -> Sighting:
    """What it says of a stop, in which nothing else is done."""
    victim.puppet.stop()
    scout.ask(question(victim))
    found = scout.sighting()
    victim.puppet.resume()
    assert found is not None
    return found


def ask(victim: Mirrored, scout: Scout) -> None:
    """Impatiently."""
    Scout.ask(scout, question(victim))


def of_place(found: Ranges) -> list[int]:
    first = PLACE >> PAGE_SHIFT
    return [int(one) - first for one in expand(found) if 0 <= int(one) - first < 1 << 20]


def test_it_finds_what_was_written_and_copies_it(victim: Mirrored, scout: PatientScout) -> None:
    victim.map(100)
    victim.tell("f", PLACE, 100 * PAGE_BYTES, 5)
    victim.begin()
    victim.checkpoint()
    victim.capture.precopy()
    for number in (17, 18, 60):
        victim.tell("w", page(number), 1000 + number)
    found = sighting(victim, scout)
    pages = expand(found.copied)
    for number in (17, 18, 60):
        row = int(np.flatnonzero(pages == page(number) >> PAGE_SHIFT)[0])
        assert found.rows[row, 0] == 1000 + number
    assert of_place(found.copied) == [17, 18, 60]
    assert not len(found.seen)


def test_what_may_be_absent_is_told_and_not_copied(victim: Mirrored, scout: PatientScout) -> None:
    victim.map(2 * LONG_PAGES)
    victim.tell("f", PLACE, 2 * LONG_BYTES, 5)
    victim.begin()
    victim.checkpoint()
    victim.tell("a", PLACE, 2 * LONG_BYTES, DONTNEED)
    found = sighting(victim, scout)
    assert of_place(found.seen) == list(range(2 * LONG_PAGES))
    assert not of_place(found.copied)


def test_too_much_for_its_rows_is_told_and_not_copied(victim: Mirrored, scout: PatientScout) -> None:
    victim.map(2 * ROWS_MAX + 2)
    victim.tell("f", PLACE, (2 * ROWS_MAX + 2) * PAGE_BYTES, 5)
    victim.begin()
    victim.checkpoint()
    for number in range(0, 2 * ROWS_MAX + 2, 2):
        victim.tell("w", page(number), 1)
    found = sighting(victim, scout)
    assert not len(found.copied)
    assert count_pages(found.seen) > ROWS_MAX
    victim.checkpoint()


def test_a_mapping_that_is_not_registered_is_left_to_the_tracker(victim: Mirrored, scout: PatientScout) -> None:
    victim.map(50)
    victim.tell("f", PLACE, 50 * PAGE_BYTES, 3)
    victim.begin()
    victim.checkpoint()
    answers = scout.answers
    victim.tell("u", PLACE, 50 * PAGE_BYTES)
    victim.map(50)
    victim.tell("w", page(7), 1)
    victim.checkpoint()
    assert scout.answers == answers
    assert victim.capture.tracker.lost_runs == 1
    victim.checkpoint()
    assert scout.answers == answers + 1


def test_what_it_saw_before_a_mapping_came_is_not_believed(victim: Mirrored, scout: PatientScout) -> None:
    victim.map(10)
    victim.begin()
    victim.checkpoint()
    victim.tell("w", page(1), 5)
    answers = scout.answers
    victim.map(10, at=page(-1000))
    victim.tell("w", page(-997), 6)
    victim.checkpoint()
    assert scout.answers == answers + 1
    assert any(victim.twin.pages[page(-997) >> PAGE_SHIFT])


def test_an_abandoned_checkpoint_loses_nothing_that_it_copied(victim: Mirrored) -> None:
    victim.map(10)
    victim.begin()
    victim.checkpoint()
    victim.tell("w", page(4), 99)
    victim.stop().abandon()
    victim.puppet.resume()
    victim.checkpoint()
    assert np.frombuffer(victim.twin.pages[page(4) >> PAGE_SHIFT], np.uint64)[0] == 99


def test_what_changes_after_it_was_asked_is_read_when_it_is_dismissed(victim: Mirrored, scout: PatientScout) -> None:
    """As by a system call that the agent makes in the program."""
    victim.map(10)
    victim.begin()
    victim.checkpoint()
    victim.tell("w", page(4), 99)
    victim.puppet.stop()
    victim.capture.ask_scout()
    os.pwrite(victim.capture.memory.file, (77).to_bytes(8, "little"), page(4))
    victim.capture.dismiss_scout()
    victim.twin.take(victim.capture.copy_stopped(), victim.image, 9)
    assert victim.wrong() == []
    assert scout.answers == 1


def test_one_page_that_it_overlooks_is_noticed(built: Path) -> None:
    """The checker of the other tests sees what the scout does wrong."""

    class Blind(PatientScout):
        def sighting(self) -> Sighting | None:
            found = super().sighting()
            if found is None:
                return None
            return replace(found, copied=found.copied[found.copied[:, 0] != page(4)])

    with Blind() as scout, mirrored(built, scout=scout) as victim:
        victim.map(10)
        victim.begin()
        victim.checkpoint()
        victim.tell("w", page(4), 99)
        victim.twin.take(victim.stop(), victim.image, 3)
        assert victim.wrong()


def test_a_late_answer_is_not_waited_for_and_never_taken_for_another(victim: Mirrored, scout: PatientScout) -> None:
    victim.map(10)
    victim.begin()
    victim.checkpoint()
    victim.puppet.stop()
    assert scout._process is not None
    os.kill(scout._process.pid, signal.SIGSTOP)
    ask(victim, scout)
    assert scout.sighting() is None
    ask(victim, scout)
    assert scout.sighting() is None
    os.kill(scout._process.pid, signal.SIGCONT)
    victim.puppet.resume()
    for _ in range(REST_QUESTIONS - 1):
        ask(victim, scout)
        assert scout.sighting() is None
    victim.tell("w", page(2), 1)
    assert 2 in of_place(sighting(victim, scout).copied)


def test_without_it_everything_goes_on(victim: Mirrored, scout: PatientScout) -> None:
    victim.map(10)
    victim.begin()
    victim.checkpoint()
    assert scout._process is not None
    scout._process.kill()
    scout._process.wait()
    for number in range(3):
        victim.tell("w", page(number), 1)
        ask(victim, scout)
        assert scout.sighting() is None
        victim.puppet.stop()
        captured = victim.capture.copy_stopped()
        victim.twin.take(captured, victim.image, 10 + number)
        assert victim.wrong() == []
        victim.puppet.resume()


def test_it_ends_with_its_agent(scout: PatientScout) -> None:
    process = scout._process
    assert process is not None
    scout.close()
    assert process.returncode == 0
