from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cluster.leader.lease import Grantor, LeaseTimes, ServingLease

TIMES = LeaseTimes()


def test_a_grant_counts_from_the_sending_on_the_node_and_from_the_answer_on_the_leader() -> None:
    lease, grantor = ServingLease(TIMES, 3), Grantor(TIMES)
    grantor.take_office(0.0)
    granted_s = grantor.grant(10.020, "p", 10.320)
    assert granted_s == pytest.approx(0.400)
    assert lease.granted(10.040, 3, 10.000, granted_s)
    assert lease.until_s == pytest.approx(10.3996)
    assert lease.stop_at_s == pytest.approx(10.3846)
    assert grantor.ended_at_s("p") == pytest.approx(10.4308)


def test_a_grant_does_not_outlive_the_round_that_a_quorum_acknowledged() -> None:
    grantor = Grantor(TIMES)
    grantor.take_office(0.0)
    assert grantor.grant(10.2, "p", 10.3) == pytest.approx(0.2)
    assert grantor.grant(10.3, "p", 10.3) == 0.0


def test_a_new_leader_waits_out_what_others_granted() -> None:
    grantor = Grantor(TIMES)
    grantor.take_office(50.0)
    assert grantor.ended_at_s("p") == pytest.approx(50.4108)
    grantor.grant(50.1, "p", 50.4)
    assert grantor.ended_at_s("p") > 50.4108
    grantor.forget("p")
    assert grantor.ended_at_s("p") == pytest.approx(50.4108)


def test_without_a_grant_nothing_may_serve() -> None:
    assert not ServingLease(TIMES, 3).may_serve(0.0)


@pytest.mark.parametrize(
    ("token", "sent_s", "granted_s"),
    [(2, 10.0, 0.4), (4, 10.0, 0.4), (3, 10.2, 0.4), (3, 10.0, 0.0), (3, 10.0, 0.5), (3, 9.5, 0.4)],
)
def test_a_grant_that_does_not_fit_changes_nothing(token: int, sent_s: float, granted_s: float) -> None:
    lease = ServingLease(TIMES, 3)
    assert not lease.granted(10.1, token, sent_s, granted_s)
    assert not lease.may_serve(10.1)


def test_grants_may_come_out_of_order() -> None:
    lease = ServingLease(TIMES, 3)
    assert lease.granted(10.2, 3, 10.1, 0.4)
    assert lease.granted(10.2, 3, 10.0, 0.4)
    assert lease.until_s == pytest.approx(10.4996)


def test_an_extension_holds_over_a_restart_of_the_daemon() -> None:
    lease = ServingLease(TIMES, 3)
    assert not lease.extended(10.1, 2, 10.0, 10)
    assert lease.extended(10.1, 3, 10.0, 10)
    assert lease.may_serve(19.9)
    assert not lease.may_serve(20.0)


@pytest.mark.parametrize(
    "times",
    [{"lease_s": 0.2}, {"leader_lease_s": 0.0}, {"drift": 0.2}, {"margin_s": -1.0}, {"fence_s": 0.2}],
)
def test_times_that_can_not_work_together_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="lease"):
        LeaseTimes(**times)


RATE = st.floats(1 - TIMES.drift / 2, 1 + TIMES.drift / 2)
DELAY = st.floats(0.0, 0.5)


@given(RATE, RATE, RATE, DELAY, DELAY, DELAY, DELAY, st.floats(-1000, 1000))
def test_no_lease_outlives_the_wait_of_any_leader(
    old_rate: float, node_rate: float, new_rate: float, to_leader: float, thinking: float, back: float,
    voting: float, offset: float,
) -> None:  # fmt: skip
    """In true time: the round is sent at 0, acknowledged by a voter, which elects the next leader after `voting`. All
    clocks run at rates of their own within the drift, and have nothing else in common."""
    old, new, lease = Grantor(TIMES), Grantor(TIMES), ServingLease(TIMES, 1)
    old.take_office(-1000.0)
    sent, answered = thinking, thinking + to_leader
    granted_s = old.grant(answered * old_rate, "p", TIMES.leader_lease_s)
    lease.granted((answered + back) * node_rate + offset, 1, sent * node_rate + offset, granted_s)
    stops = (lease.until_s - offset) / node_rate
    new.take_office(voting * new_rate)
    assert stops < new.ended_at_s("p") / new_rate
    assert stops < old.ended_at_s("p") / old_rate or granted_s == 0
