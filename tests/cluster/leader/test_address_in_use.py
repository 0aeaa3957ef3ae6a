"""A foreign machine has the program's address at the moment of a takeover: no context is lost for that."""

from __future__ import annotations

import pytest

from cluster.leader.news import (
    ActivateWaits,
    InstanceEnded,
    NodeClosed,
    StartRequested,
    StopRequested,
    SwitchHeld,
    SwitchRequested,
)
from cluster.leader.orders import ActivateOn, Answer, AskFence, Note, RebuildOn, RestartOn, SwitchOn, TerminateOn
from cluster.registry.commands import Ok, Rejected
from tests.cluster.leader.a_leader import KILLED, Leader, of, up
from transport.checkpoint import Version

LAST = Version(1, 6, 7)
WHO = "10.0.0.100 is used by 52:54:00:00:00:66 on eth0 already; take it away there"


def waits(leader: Leader, reason: str = WHO) -> ActivateWaits:
    """What the node of the present primary answers."""
    return ActivateWaits("p", leader.entry.token, leader.entry.primary, reason)


def taken_over() -> Leader:
    """The program was killed on n1; n2 is to go on with it, and somebody else has the address."""
    leader = up()
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    assert (leader.entry.primary, leader.entry.token) == ("n2", 2)
    leader.orders.clear()
    leader.tell(waits(leader))
    return leader


def wait(leader: Leader, seconds: float) -> list[object]:
    """Time passes, and the machine is still there whenever it is tried."""
    given: list[object] = []
    end_s = leader.now_s + seconds
    while leader.now_s < end_s:
        step = leader.wait(0.1)
        given += step
        if of(step, ActivateOn):
            given += leader.tell(waits(leader))
    return given


def test_the_mirror_is_told_again_for_as_long_as_it_takes_and_goes_on_from_its_context() -> None:
    leader = taken_over()
    given = wait(leader, 600.0)
    again = [one for one in given if isinstance(one, ActivateOn)]
    assert set(again) == {ActivateOn("n2", "p", 2, LAST)}
    # Not more often than it can be of use, nor so seldom that clients notice.
    assert 500 <= len(again) <= 620
    assert not [one for one in given if isinstance(one, AskFence | RestartOn | RebuildOn | TerminateOn)]
    assert (leader.entry.token, leader.entry.fence) == (2, None)
    leader.orders.clear()
    leader.serves("n2")
    assert leader.entry.instance_on("n2").status == "running"  # type: ignore[union-attr]
    assert leader.entry.instance_on("n2").reason == ""  # type: ignore[union-attr]
    leader.wait(0.2)
    assert "n1" in {order.node for order in of(leader.orders, RebuildOn)}


def test_the_registry_says_who_it_is_once() -> None:
    leader = taken_over()
    one = leader.entry.instance_on("n2")
    assert one is not None
    assert (one.role, one.status, one.reason) == ("primary", "starting", WHO)
    assert [note.what for note in of(leader.orders, Note)] == [f"p@n2 can't serve: {WHO}"]
    leader.orders.clear()
    applied = leader.registry.applied
    wait(leader, 10.0)
    assert not of(leader.orders, Note)
    assert leader.registry.applied == applied
    other = WHO.replace("66", "77")
    leader.tell(waits(leader, other))
    assert leader.entry.instance_on("n2").reason == other  # type: ignore[union-attr]


def test_a_node_that_says_nothing_more_has_no_more_time_than_any_other() -> None:
    leader = taken_over()
    wait(leader, 60.0)
    leader.wait(4.5)
    assert leader.entry.token == 2
    leader.wait(1.5)
    leader.mirrored("n3", 6, asked=True, token=1)
    assert (leader.entry.primary, leader.entry.token) == ("n3", 3)
    assert of(leader.orders, ActivateOn)[-1] == ActivateOn("n3", "p", 3, LAST)


def test_when_its_node_is_lost_the_next_mirror_waits_with_the_same_context() -> None:
    leader = taken_over()
    wait(leader, 30.0)
    leader.silent.add("n2")
    leader.tell(NodeClosed("n2"))
    leader.wait(0.6)
    leader.mirrored("n3", 6, asked=True, token=1)
    leader.wait(0.6)
    assert (leader.entry.primary, leader.entry.token) == ("n3", 3)
    assert ActivateOn("n3", "p", 3, LAST) in leader.orders
    leader.tell(waits(leader))
    given = wait(leader, 30.0)
    assert not [one for one in given if isinstance(one, RestartOn | AskFence)]
    assert leader.entry.instance_on("n3").reason == WHO  # type: ignore[union-attr]


def test_the_next_leader_goes_on_waiting() -> None:
    before = taken_over()
    leader = Leader(registry=before.registry, term=2)
    leader.wait(0.5)
    assert ActivateOn("n2", "p", 2, LAST) in leader.orders
    leader.orders.clear()
    leader.tell(waits(leader))
    given = wait(leader, 30.0)
    assert not [one for one in given if isinstance(one, AskFence | RestartOn)]
    assert leader.entry.token == 2


def test_whoever_asked_for_a_switchover_is_told_and_the_mirror_waits() -> None:
    leader = up()
    [hold] = of(leader.tell(SwitchRequested("r", "p@n2")), SwitchOn)
    final = Version(1, 9, 7)
    leader.tell(SwitchHeld("p", 1, "n1", hold.fence_id, final))
    leader.mirrored("n3", 9, asked=True)
    leader.mirrored("n2", 9, asked=True)
    assert of(leader.tell(waits(leader)), Answer) == [Answer("r", Rejected("unfit", WHO))]
    wait(leader, 20.0)
    assert leader.entry.token == 2
    assert not of(leader.serves("n2"), Answer)


@pytest.mark.parametrize("news", [SwitchRequested("r", "p@n3"), SwitchRequested("r", "p@n2")])
def test_a_person_who_wants_something_else_meanwhile_hears_why_not(news: SwitchRequested) -> None:
    leader = taken_over()
    [answer] = of(leader.tell(news), Answer)
    assert answer.result == Rejected(
        "busy", f"a takeover of p is under way already: p@n2 waits, {WHO}", "wait, and look at its status"
    )


def test_a_person_may_stop_it_and_start_it_without_its_context() -> None:
    leader = taken_over()
    wait(leader, 5.0)
    leader.tell(StopRequested("stop", "p", False))
    assert TerminateOn("n2", "p", 2) in leader.orders
    ended = InstanceEnded("p", 2, "n2", 9, None, True, "a person stopped it")
    assert Answer("stop", Ok("p")) in leader.tell(ended)
    assert leader.entry.instance_on("n2").status == "stopped"  # type: ignore[union-attr]
    leader.tell(StartRequested("start", "p"))
    assert [order.token for order in of(leader.orders, RestartOn)] == [3]
