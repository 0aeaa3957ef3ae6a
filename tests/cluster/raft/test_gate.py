"""What may leave before the disk has what it says."""

from __future__ import annotations

import pytest

from cluster.raft.gate import HEARD_AFTER_S, Gate, Promised, held_by_quorum, needed
from cluster.raft.wire import (
    Appended,
    AppendEntries,
    InstallSnapshot,
    NotProposed,
    Propose,
    Proposed,
    RaftMessage,
    RequestVote,
    Vote,
)

BEHIND = Promised(durable=3, all=5, term=2)
TERM_BEHIND = Promised(durable=3, all=5, term=4)
HELD = Appended(7, 1, 9, True, False)


@pytest.mark.parametrize(
    ("message", "work"),
    [
        (RequestVote(7, 8, 7), 5),
        (Vote(7, 0.1), 5),
        (HELD, 5),
        (Appended(7, 1, 9, False, True), 2),
        (Appended(7, 1, 0, False, False), 2),
        (AppendEntries(7, 1, 8, 8, 7, ((7, b"\x00x"),)), None),
        (InstallSnapshot(7, 1, b"", False, False), None),
        (Propose(1, b"x"), None),
        (Proposed(1, 9, 7), None),
        (NotProposed(1, 4), None),
    ],
)
def test_what_a_message_needs(message: RaftMessage, work: int | None) -> None:
    assert needed(message, BEHIND) == work


def test_what_promises_nothing_overtakes_what_waits() -> None:
    gate = Gate()
    heartbeat = AppendEntries(7, 1, 8, 8, 7, ())
    assert gate.offer("b", HELD, BEHIND, 0.0) is None
    assert gate.offer("b", heartbeat, TERM_BEHIND, 0.0) == heartbeat


def test_what_waits_leaves_when_its_work_is_done_and_in_order() -> None:
    gate = Gate()
    later = Appended(7, 2, 11, True, False)
    assert gate.offer("b", HELD, BEHIND, 0.0) is None
    assert gate.offer("b", later, Promised(3, 6, 2), 0.0) is None
    assert gate.offer("c", later, Promised(3, 6, 2), 0.0) is None
    assert gate.release(4, 0.0) == []
    assert gate.release(5, 0.0) == [("b", HELD)]
    assert gate.release(6, 0.0) == [("b", later), ("c", later)]
    assert gate.release(9, 0.0) == []


def test_a_promise_that_is_kept_already_does_not_overtake_one_that_waits() -> None:
    gate = Gate()
    begin_again = Appended(7, 2, 4, False, True)
    assert gate.offer("b", HELD, BEHIND, 0.0) is None
    assert gate.offer("b", begin_again, BEHIND, 0.0) is None
    assert gate.release(5, 0.0) == [("b", HELD), ("b", begin_again)]


def test_while_a_disk_takes_long_the_leader_hears_that_it_is_heard() -> None:
    gate = Gate()
    assert gate.offer("b", HELD, BEHIND, 0.0) is None
    answer = Appended(7, 2, 9, True, False)
    assert gate.offer("b", answer, BEHIND, HEARD_AFTER_S * 0.9) is None
    assert gate.offer("b", answer, BEHIND, HEARD_AFTER_S * 1.1) == Appended(7, 2, 0, False, False)


def test_nobody_is_told_of_a_term_that_is_not_durable() -> None:
    gate = Gate()
    for now_s in (0.0, 1.0, 2.0):
        assert gate.offer("b", HELD, TERM_BEHIND, now_s) is None


def test_answers_to_heartbeats_do_not_pile_up() -> None:
    gate = Gate()
    for number in range(1000):
        gate.offer("b", Appended(7, number, 9, True, False), BEHIND, 0.0)
    assert gate.release(5, 1.0) == [("b", Appended(7, 999, 9, True, False))]


def test_an_answer_that_says_less_does_not_take_the_place_of_one_that_says_more() -> None:
    gate = Gate()
    less = Appended(7, 2, 8, True, False)
    for answer in (HELD, less):
        gate.offer("b", answer, BEHIND, 0.0)
    assert gate.release(5, 0.0) == [("b", HELD), ("b", less)]


def test_a_vote_tells_when_it_leaves_how_long_ago_a_leader_was_heard() -> None:
    gate = Gate()
    assert gate.offer("b", Vote(7, 0.2), BEHIND, 10.0) is None
    ((_, vote),) = gate.release(5, 11.5)
    assert isinstance(vote, Vote)
    assert vote.heard_ago_s == pytest.approx(1.7)


def test_what_waits_ends_with_its_connection() -> None:
    gate = Gate()
    for peer in ("b", "c"):
        gate.offer(peer, HELD, BEHIND, 0.0)
    gate.drop("b")
    assert gate.release(5, 0.0) == [("c", HELD)]


@pytest.mark.parametrize(
    ("indices", "agreed"),
    [([4], 4), ([9, 4], 4), ([9, 4, 3], 4), ([3, 9, 9], 9), ([9, 0, 0], 0), ([9, 8, 7, 6], 7), ([9, 8, 7, 6, 5], 7)],
)
def test_a_quorum_has_what_its_slowest_has(indices: list[int], agreed: int) -> None:
    assert held_by_quorum(indices) == agreed
