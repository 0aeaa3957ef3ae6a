"""The leader's quorum lease: send times, a quorum of answers, the own term, and the wait for an earlier leader's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.lease import ROUNDS_MAX, Leadership, QuorumLease

LEASE_S = 0.3
DRIFT = 0.001
LENGTH_S = LEASE_S * (1 - DRIFT)


def _lease(peers: str = "bc", heard_s: float = 0.0) -> QuorumLease:
    lease = QuorumLease(peers, LEASE_S, DRIFT)
    lease.begin(1, heard_s)
    return lease


def test_a_quorum_counts_from_the_time_of_sending() -> None:
    lease = _lease()
    number = lease.sent("b", 10.0)
    assert lease.quorum_until_s(10.2) is None
    lease.acknowledged("b", 1, number)
    assert lease.quorum_until_s(10.2) == pytest.approx(10.0 + LENGTH_S)


def test_of_five_the_second_newest_answer_decides() -> None:
    lease = _lease("bcde")
    for peer, sent_s in (("b", 10.0), ("c", 10.1), ("d", 10.2)):
        lease.acknowledged(peer, 1, lease.sent(peer, sent_s))
    assert lease.quorum_until_s(10.25) == pytest.approx(10.1 + LENGTH_S)


def test_an_answer_to_an_older_round_does_not_shorten_or_lengthen() -> None:
    lease = _lease()
    old, new = lease.sent("b", 10.0), lease.sent("b", 10.2)
    lease.acknowledged("b", 1, new)
    lease.acknowledged("b", 1, old)
    assert lease.quorum_until_s(10.2) == pytest.approx(10.2 + LENGTH_S)


@pytest.mark.parametrize("term", [0, 2])
def test_an_answer_in_another_term_is_none(term: int) -> None:
    lease = _lease()
    lease.acknowledged("b", term, lease.sent("b", 10.0))
    assert lease.quorum_until_s(10.0) is None


def test_rounds_of_an_earlier_leadership_are_forgotten() -> None:
    lease = _lease()
    number = lease.sent("b", 10.0)
    lease.end()
    assert lease.quorum_until_s(10.0) is None
    lease.begin(2, 10.0)
    lease.acknowledged("b", 2, number)
    assert lease.quorum_until_s(10.0) is None


def test_an_answer_to_another_peers_round_is_none() -> None:
    lease = _lease()
    number = lease.sent("b", 10.0)
    lease.sent("c", 10.0)
    lease.acknowledged("c", 1, number)
    assert lease.quorum_until_s(10.0) is None


def test_authority_waits_until_no_earlier_lease_can_last() -> None:
    lease = _lease(heard_s=10.0)
    lease.acknowledged("b", 1, lease.sent("b", 10.2))
    begins = 10.0 + LEASE_S * (1 + DRIFT)
    assert lease.authority_until_s(begins - 0.001) is None
    assert lease.authority_until_s(begins) == pytest.approx(10.2 + LENGTH_S)
    assert lease.not_before_s == pytest.approx(begins)


def test_a_member_alone_is_its_own_quorum() -> None:
    lease = _lease("")
    assert lease.quorum_until_s(10.0) == pytest.approx(10.0 + LENGTH_S)


def test_unanswered_rounds_are_bounded() -> None:
    lease = _lease()
    first = lease.sent("b", 1.0)
    for _ in range(ROUNDS_MAX):
        lease.sent("b", 2.0)
    lease.acknowledged("b", 1, first)
    assert lease.quorum_until_s(2.0) is None


@given(st.lists(st.tuples(st.sampled_from("bcde"), st.booleans()), max_size=60))
def test_the_lease_is_what_a_plain_count_says(sends: list[tuple[str, bool]]) -> None:
    lease = _lease("bcde")
    newest: dict[str, float] = {}
    for second, (peer, answered) in enumerate(sends):
        number = lease.sent(peer, float(second))
        if answered:
            lease.acknowledged(peer, 1, number)
            newest[peer] = float(second)
    now = float(len(sends))
    # Dumb twin: the latest time which at least two others have answered at or after.
    times = [t for t in newest.values() if sum(other >= t for other in newest.values()) >= 2]
    until = lease.quorum_until_s(now)
    assert until == (pytest.approx(max(times) + LENGTH_S) if times else None)


def test_a_leadership_holds_only_before_its_end() -> None:
    assert Leadership("a", 1, 5.0).holds(4.9)
    assert not Leadership("a", 1, 5.0).holds(5.0)
    assert not Leadership("a", 1, None).holds(0.0)
