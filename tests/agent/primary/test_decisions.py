"""The primary's schedule and the order of what it does at its program's end."""

from __future__ import annotations

import pytest

from agent.primary.decisions import (
    Abandoned,
    AudienceChanged,
    DropAddress,
    Due,
    End,
    Ending,
    LetDie,
    Primary,
    Refused,
    Released,
    Report,
    Silence,
    Take,
    Taken,
)


def watched(interval_s: float = 0.05) -> Primary:
    """A primary with one mirror, whose first checkpoint is due at 0."""
    primary = Primary(interval_s)
    primary.step(0.0, AudienceChanged(1))
    return primary


def test_nothing_is_captured_while_nobody_mirrors() -> None:
    primary = Primary(0.05)
    assert primary.step(100.0, Due()) == []
    primary.step(100.0, AudienceChanged(1))
    assert primary.step(100.0, Due()) == [Take()]
    primary.step(100.01, Taken(100.0))
    primary.step(100.02, AudienceChanged(0))
    assert primary.due_s is None


def test_checkpoints_start_one_interval_apart_when_they_are_quick() -> None:
    primary = watched()
    primary.step(0.002, Taken(0.0))
    assert primary.due_s == 0.05
    assert primary.step(0.049, Due()) == []
    assert primary.step(0.05, Due()) == [Take()]


def test_a_program_that_dirties_too_much_gets_time_to_run() -> None:
    primary = watched()
    primary.step(0.4, Taken(0.0))
    assert primary.due_s == pytest.approx(0.6)


def test_an_abandoned_checkpoint_is_counted_and_tried_again_with_growing_patience() -> None:
    primary = watched()
    waits = []
    for _ in range(5):
        primary.step(0.0, Abandoned())
        waits.append(primary.due_s)
    assert waits == [0.005, 0.01, 0.02, 0.04, 0.05]
    assert primary.abandoned == 5
    primary.step(1.0, Taken(1.0))
    primary.step(1.0, Abandoned())
    assert primary.due_s == pytest.approx(1.005)


def test_a_killed_program_gives_its_last_state_after_the_address_is_silent_and_only_then_dies() -> None:
    primary = watched()
    assert primary.step(0.01, Ending(End.KILLED, 9)) == [Silence(), Take(final=True)]
    assert primary.step(0.02, Taken(0.01, final=True)) == [DropAddress(), Report(End.KILLED, 9, True)]
    assert primary.step(0.1, Due()) == []
    assert primary.step(9.0, Due()) == [LetDie()]
    assert primary.step(9.1, Due()) == []


def test_a_killed_program_is_let_go_as_soon_as_another_instance_serves() -> None:
    primary = watched()
    assert primary.step(0.0, Released()) == []
    primary.step(0.01, Ending(End.KILLED, 9))
    primary.step(0.02, Taken(0.01, final=True))
    assert primary.step(0.03, Released()) == [LetDie()]
    assert primary.step(0.04, Released()) == []


def test_a_killed_program_in_a_suspect_state_falls_back_to_the_checkpoint_before() -> None:
    primary = watched()
    primary.step(0.01, Ending(End.KILLED, 9))
    refused = primary.step(0.02, Refused("thread 77"))
    assert refused == [DropAddress(), Report(End.KILLED, 9, False, "thread 77"), LetDie()]


@pytest.mark.parametrize("end", [End.CRASHED, End.TERMINATED, End.EXITED])
def test_a_program_that_ends_of_its_own_is_never_continued_from_its_end(end: End) -> None:
    assert watched().step(0.01, Ending(end, 11)) == [DropAddress(), Report(end, 11, False), LetDie()]


def test_a_killed_program_without_a_mirror_is_let_go_at_once() -> None:
    assert Primary(0.05).step(0.0, Ending(End.KILLED, 9)) == [DropAddress(), Report(End.KILLED, 9, False), LetDie()]


def test_an_end_is_reported_once() -> None:
    primary = watched()
    primary.step(0.01, Ending(End.CRASHED, 11))
    assert primary.step(0.02, Ending(End.CRASHED, 11)) == []
