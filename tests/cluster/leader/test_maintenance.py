"""Maintenance in the leader's decisions: a pause, drained nodes, a failover by hand."""

from __future__ import annotations

from cluster.leader.news import (
    FailoverRequested,
    FenceConfirmed,
    InstanceEnded,
    InstanceReported,
    MirrorReported,
    RegistryChanged,
    StartRequested,
    SwitchHeld,
    SwitchRequested,
)
from cluster.leader.orders import ActivateOn, Answer, AskFence, AskMirrors, ReleaseOn, RestartOn, ResumeOn, SwitchOn
from cluster.leader.selection import Held
from cluster.registry.commands import Drain, Ok, Pause, Rejected
from cluster.registry.values import Policy
from tests.cluster.leader.a_leader import KILLED, names, of, paused, up
from transport.checkpoint import Version


def test_a_pause_ends_by_itself() -> None:
    leader = up()
    leader.registry.apply(Pause("pause", "p", int(1e6 + leader.now_s - 100) + 5))
    leader.tell(RegistryChanged("p"))
    leader.tell(KILLED)
    assert not of(leader.wait(3.0), ActivateOn)
    assert "Resume" in names(leader.wait(3.0))
    assert not leader.entry.paused
    assert leader.mirrored("n2", 6, asked=True) or leader.mirrored("n3", 6, asked=True)
    leader.wait(0.5)
    assert leader.entry.primary != "n1"


def test_a_person_starts_it_during_a_pause() -> None:
    leader = up(Policy(restart="never", takeovers_max=0))
    leader.tell(InstanceEnded("p", 1, "n1", 0, None, True, ""))
    paused(leader, True)
    assert of(leader.tell(StartRequested("start", "p")), RestartOn)


def test_a_failover_by_hand_is_refused_while_the_primary_serves() -> None:
    leader = up()
    [answer] = of(leader.tell(FailoverRequested("f", "p@n2", False)), Answer)
    assert isinstance(answer.result, Rejected)
    assert "serves" in answer.result.reason
    assert "switchover" in answer.result.hint


def test_a_failover_by_force_fences_what_serves_and_names_its_mirror() -> None:
    leader = up()
    [fence] = of(leader.tell(FailoverRequested("f", "p@n3", True)), AskFence)
    leader.tell(FenceConfirmed("p", 1, "n1", fence.fence_id))
    leader.mirrored("n2", 9, asked=True)
    orders = leader.mirrored("n3", 6, asked=True)
    assert [one.node for one in of(orders, ActivateOn)] == ["n3"]
    assert leader.entry.takeovers == ()
    orders = leader.serves("n3")
    assert Answer("f", Ok("p@n3")) in orders
    assert of(orders, ReleaseOn) == [ReleaseOn("n1", "p", 1)]


def test_a_failover_by_force_waits_for_a_mirror_that_is_slow_to_answer() -> None:
    leader = up()
    [fence] = of(leader.tell(FailoverRequested("f", "p@n3", True)), AskFence)
    leader.tell(FenceConfirmed("p", 1, "n1", fence.fence_id))
    leader.mirrored("n2", 9, asked=True)
    assert not of(leader.wait(1.0), Answer)
    assert [one.node for one in of(leader.mirrored("n3", 6, asked=True), ActivateOn)] == ["n3"]


def test_a_failover_by_force_to_a_mirror_that_never_answers_is_undone() -> None:
    leader = up()
    [fence] = of(leader.tell(FailoverRequested("f", "p@n3", True)), AskFence)
    leader.tell(InstanceReported("p", "n1", "primary", "fenced", 1, 1, fence_id=fence.fence_id))
    leader.tell(FenceConfirmed("p", 1, "n1", fence.fence_id))
    leader.mirrored("n2", 9, asked=True)
    orders = leader.wait(3.0)
    [answer] = of(orders, Answer)
    assert isinstance(answer.result, Rejected)
    assert "has not said what it holds" in answer.result.reason
    assert ResumeOn("n1", "p", 1, fence.fence_id) in orders


def test_a_failover_by_force_without_a_mirror_is_undone() -> None:
    leader = up()
    [fence] = of(leader.tell(FailoverRequested("f", "p@n1", True)), AskFence)
    leader.tell(InstanceReported("p", "n1", "primary", "fenced", 1, 1, fence_id=fence.fence_id))
    leader.tell(FenceConfirmed("p", 1, "n1", fence.fence_id))
    for node in ("n2", "n3"):
        leader.tell(MirrorReported("p", node, Held(f"p@{node}", 1, "failed", Version(1, 5, 7)), asked=True))
    orders = leader.orders
    [answer] = of(orders, Answer)
    assert isinstance(answer.result, Rejected)
    assert ResumeOn("n1", "p", 1, fence.fence_id) in orders
    assert (leader.entry.primary, leader.entry.fence) == ("n1", None)


def test_during_a_pause_a_person_decides() -> None:
    leader = up()
    paused(leader, True)
    leader.tell(KILLED)
    assert not of(leader.wait(1.0), AskMirrors)
    one = leader.entry.instances[0]
    assert (one.status, one.reason) == ("failed", "killed by signal 9; no failover: it is paused")
    leader.tell(FailoverRequested("f", "p@n1", False))
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    leader.wait(0.5)
    assert leader.entry.token == 2


def test_a_drained_node_is_taken_last() -> None:
    leader = up()
    leader.registry.apply(Drain("drain", "n2"))
    leader.tell(FailoverRequested("f", "p@n1", True))
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    orders = leader.mirrored("n3", 6, asked=True)
    assert [one.node for one in of(orders, ActivateOn)] == ["n3"]


def test_a_drained_node_that_has_it_first_is_not_taken_before_the_other_could_have_it() -> None:
    leader = up()
    leader.registry.apply(Drain("drain", "n2"))
    [hold] = of(leader.tell(SwitchRequested("s", "p@n1")), SwitchOn)
    final = Version(1, 9, 7)
    leader.mirrored("n2", 8)
    orders = leader.tell(SwitchHeld("p", 1, "n1", hold.fence_id, final, ("p@n2",)))
    orders += leader.mirrored("n2", 9, asked=True)
    orders += leader.mirrored("n3", 8, asked=True)
    assert not of(orders, ActivateOn)
    [order] = of(leader.mirrored("n3", 9, asked=True), ActivateOn)
    assert order.node == "n3"
