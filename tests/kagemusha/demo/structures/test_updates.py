"""What counts as lost, as safe, and as a gap."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from kagemusha.demo.structures.updates import Updates, outcome


def client(replies: int, *, sure: tuple[int, ...] = ()) -> Updates:
    """One that had an answer at 10, 20, 30, ..."""
    one = Updates("ann")
    one.held(0, 5)
    for number in range(1, replies + 1):
        one.acknowledged(10 * number, is_sure=number in sure)
    return one


def test_what_is_beyond_the_count_is_lost() -> None:
    one = client(10, sure=(4, 8))
    one.held(6, 200)
    assert [(lost.number, lost.acknowledged_ns, lost.is_sure) for lost in one.lost] == [
        (7, 70, False),
        (8, 80, True),
        (9, 90, False),
        (10, 100, False),
    ]
    assert one.next == 7
    one.acknowledged(210, is_sure=False)
    found = outcome([one], 105)
    assert (found.acknowledged, found.lost, found.sure, found.sure_lost) == (10, 4, 2, 1)
    assert (found.oldest_lost_ns, found.gap_ns, found.absent, found.wrong) == (70, 110, [], [])


def test_an_update_whose_answer_did_not_come_may_be_there() -> None:
    one = client(3)
    one.unanswered = 2
    one.held(4, 50)
    assert (one.next, one.lost, one.wrong) == (5, [], [])
    one.held(5, 60)
    assert (one.next, one.lost, one.wrong) == (6, [], [])
    assert outcome([one], 100).acknowledged == 5
    one.held(6, 70)
    assert one.wrong


def test_more_than_was_ever_sent_is_wrong() -> None:
    one = client(3)
    one.held(5, 50)
    assert outcome([one], 40).wrong


def test_who_has_no_answer_since_is_absent() -> None:
    one = client(3)
    assert outcome([one], 35).absent == ["ann"]
    one.held(3, 50)
    assert outcome([one], 35).absent == ["ann"]
    one.acknowledged(60, is_sure=False)
    assert outcome([one], 35).absent == []
    assert outcome([one], 55).absent == ["ann"]


@given(st.integers(0, 30), st.integers(0, 31), st.integers(0, 31))
def test_nothing_is_lost_twice(sent: int, first: int, second: int) -> None:
    one = client(sent)
    one.held(min(first, sent), 1000)
    one.held(min(second, first, sent), 1001)
    numbers = [lost.number for lost in one.lost]
    assert len(set(numbers)) == len(numbers)
    assert sorted(numbers) == list(range(min(first, second, sent) + 1, sent + 1))
