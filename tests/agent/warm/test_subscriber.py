"""Which updates a mirror gets: those that build on what it will have, and whole copies of what it needs."""

from __future__ import annotations

import pytest

from agent.structures.update import NO_STATE, Update
from agent.warm.subscriber import Subscriber
from transport.checkpoint import Version

ONE, TWO = (1, b"state  1"), (2, b"state  2")
NEXT = Update("book", 1, *ONE, *TWO, TWO[1], b"")
WHOLE = Update("book", 1, 0, NO_STATE, *TWO, TWO[1], b"")


@pytest.fixture
def mirror() -> Subscriber:
    """It is connected, and has said nothing yet."""
    return Subscriber(1, "paired@b", 1, 0)


@pytest.mark.parametrize("update", [NEXT, WHOLE])
def test_who_has_not_said_what_it_holds_gets_nothing(mirror: Subscriber, update: Update) -> None:
    assert not mirror.takes(update)
    assert not mirror.lacks("book")


@pytest.mark.parametrize("update", [NEXT, WHOLE])
def test_who_is_at_the_base_goes_on(mirror: Subscriber, update: Update) -> None:
    mirror.stands_at("book", ONE)
    assert mirror.takes(update)
    assert mirror.at == {"book": TWO}
    assert not mirror.takes(update)


def test_who_misses_an_update_needs_a_whole_copy_and_takes_it(mirror: Subscriber) -> None:
    mirror.stands_at("book", (7, b"another "))
    assert not mirror.takes(NEXT)
    assert mirror.lacks("book")
    assert mirror.at == {}
    assert not mirror.takes(NEXT)
    assert mirror.takes(WHOLE)
    assert not mirror.lacks("book")


def test_who_is_jammed_gets_nothing_and_needs_everything_whole_after_that(mirror: Subscriber) -> None:
    mirror.stands_at("book", ONE)
    mirror.jam()
    assert not mirror.takes(NEXT)
    assert not mirror.lacks("book")
    mirror.is_jammed = False
    assert mirror.lacks("book")
    assert not mirror.takes(NEXT)
    assert mirror.takes(WHOLE)


def test_a_structure_that_is_gone_is_needed_no_more(mirror: Subscriber) -> None:
    mirror.falls_behind("book")
    mirror.forget("book")
    assert not mirror.lacks("book")
    mirror.stands_at("book", ONE)
    mirror.forget("book")
    assert mirror.at == {}


def test_who_has_reached_no_mark_counts_not_and_who_is_jammed_no_more(mirror: Subscriber) -> None:
    counted = [mirror.counts]
    mirror.reached = Version(1, 1, 1)
    counted.append(mirror.counts)
    mirror.jam()
    counted.append(mirror.counts)
    assert counted == [False, True, False]
