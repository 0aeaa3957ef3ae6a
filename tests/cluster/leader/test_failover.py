"""Scenarios of the leader, one by one: what is ordered, in which order, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.leader.news import (
    ActivateFailed,
    AgentLost,
    Committed,
    FenceConfirmed,
    HealthChanged,
    InstanceEnded,
    InstanceReported,
    Leading,
    LeaseAsked,
    MirrorReported,
    NodeClosed,
    NodeHeard,
    NotLeading,
    RegistryChanged,
    StartRequested,
    StopRequested,
    SwitchFailed,
    SwitchHeld,
    SwitchRequested,
    Tick,
)
from cluster.leader.orders import (
    ActivateOn,
    Answer,
    AskFence,
    AskMirrors,
    Commit,
    GrantLease,
    Note,
    RebuildOn,
    RefuseLease,
    ReleaseOn,
    RestartOn,
    ResumeOn,
    SwitchOn,
    TerminateOn,
)
from cluster.leader.selection import Held
from cluster.registry.commands import Extend, Fenced, Ok, Promote, Rejected, Started, Unfence
from cluster.registry.values import Policy
from tests.cluster.leader.a_leader import KILLED, Leader, commands, names, of, paused, up
from transport.checkpoint import Version


def test_a_new_program_is_started_on_its_first_node_and_mirrored_on_the_others() -> None:
    leader = Leader()
    assert names(leader.orders) == ["TakeOffice", "Started", "RestartOn"]
    assert of(leader.orders, RestartOn) == [RestartOn("n1", "p", 1)]
    leader.serves("n1")
    assert leader.entry.primary_instance is not None
    assert leader.entry.primary_instance.status == "running"
    assert of(leader.wait(1.1), RebuildOn) == [RebuildOn("n2", "p", "n1", 1), RebuildOn("n3", "p", "n1", 1)]


def test_a_killed_program_is_fenced_by_its_end_and_continues_from_its_last_checkpoint() -> None:
    leader = up()
    assert names(leader.tell(KILLED)) == ["Fenced", "AskMirrors"]
    leader.mirrored("n2", 5, asked=True)
    assert names(leader.mirrored("n3", 6, asked=True)) == ["Promote", "GetReadyOn", "ActivateOn"]
    assert of(leader.orders, ActivateOn) == [ActivateOn("n3", "p", 2, Version(1, 6, 7))]
    done = leader.serves("n3")
    assert names(done)[:3] == ["SetInstance", "ReleaseOn", "Note"]
    assert of(done, ReleaseOn) == [ReleaseOn("n1", "p", 1)]
    parts = dict(of(done, Note)[0].parts)
    assert list(parts) == ["detect_us", "fence_us", "agree_us", "activate_us", "redirect_us", "address", "go"]
    assert (parts["detect_us"], parts["redirect_us"]) == (4000, parts["address"])
    assert not of(leader.orders, RebuildOn), "its clients come first"
    assert {order.node for order in of(leader.wait(0.11), RebuildOn)} == {"n1", "n2"}


def test_it_waits_a_moment_for_the_last_checkpoint_and_not_for_ever() -> None:
    leader = up()
    leader.tell(KILLED)
    leader.mirrored("n2", 5, asked=True)
    leader.mirrored("n3", 4, asked=True)
    assert not of(leader.wait(0.2), ActivateOn)
    assert of(leader.wait(0.1), ActivateOn) == [ActivateOn("n2", "p", 2, Version(1, 5, 7))]


def test_the_last_checkpoint_is_asked_for_again_and_again() -> None:
    leader = up()
    leader.tell(KILLED)
    leader.mirrored("n2", 5, asked=True)
    assert of(leader.mirrored("n3", 5, asked=True), AskMirrors) == [AskMirrors("p", ("n2", "n3"), Version(1, 6, 7))]
    assert len(of(leader.wait(0.1), AskMirrors)) >= 5


def test_a_lost_node_is_waited_out() -> None:
    leader = up()
    leader.wait(1.0)
    assert of(leader.asks(), GrantLease)
    leader.silent.add("n1")
    orders = leader.wait(0.38)
    assert of(orders, AskFence)
    assert not commands(orders)
    assert names(leader.asks()) == ["RefuseLease"]
    fenced = commands(leader.wait(0.05))
    assert [(type(one), getattr(one, "confirmed", None)) for one in fenced] == [(Fenced, False)]
    leader.mirrored("n2", 5, asked=True)
    assert not of(leader.orders, ActivateOn)
    orders = leader.mirrored("n3", 5, asked=True)
    assert of(orders, ActivateOn)
    [promote] = [one for one in commands(orders) if isinstance(one, Promote)]
    assert promote.because == "its id comes first, and p@n3 holds as much and is as well off"


def test_a_closed_connection_is_a_loss_at_once_and_a_confirmed_fence_needs_no_wait() -> None:
    leader = up()
    leader.wait(1.0)
    leader.asks()
    [asked] = of(leader.tell(NodeClosed("n1")), AskFence)
    orders = leader.tell(FenceConfirmed("p", 1, "n1", asked.fence_id))
    assert names(orders) == ["Fenced", "AskMirrors"]
    leader.mirrored("n2", 5, asked=True)
    assert of(leader.mirrored("n3", 5, asked=True), ActivateOn)


def test_a_node_that_comes_back_in_time_serves_on() -> None:
    leader = up()
    leader.wait(1.0)
    leader.asks()
    leader.silent.add("n1")
    [asked] = of(leader.wait(0.2), AskFence)
    leader.silent.clear()
    assert of(leader.wait(0.02), ResumeOn) == [ResumeOn("n1", "p", 1, asked.fence_id)]
    assert of(leader.asks(), GrantLease)
    assert leader.entry.token == 1


def test_a_late_confirmation_of_another_fence_is_none() -> None:
    leader = up()
    leader.wait(1.0)
    leader.asks()
    assert not commands(leader.tell(NodeClosed("n1"), FenceConfirmed("p", 1, "n1", "1.99.fence")))


def test_status_0_is_a_stop_and_no_failure() -> None:
    leader = up()
    orders = leader.tell(InstanceEnded("p", 1, "n1", 0, None, True, ""))
    assert leader.entry.instances[0].status == "stopped"
    assert {order.node for order in of(orders, TerminateOn)} == {"n2", "n3"}
    assert not of(leader.wait(3.0), ActivateOn)
    [granted] = of(leader.tell(StartRequested("start", "p")), RestartOn)
    assert (granted.node, leader.entry.token) == ("n1", 2)
    assert of(leader.serves("n1"), Answer) == [Answer("start", Ok("p@n1"))]


def test_during_maintenance_nothing_is_taken_over() -> None:
    leader = up()
    paused(leader, True)
    assert names(leader.tell(KILLED)) == ["SetInstance"]
    paused(leader, False)
    assert names(leader.tell(RegistryChanged("p"))) == ["Fenced", "AskMirrors"]


def test_a_switchover_loses_nothing_and_is_answered_when_the_new_primary_serves() -> None:
    leader = up()
    [hold] = of(leader.tell(SwitchRequested("r", "p@n2")), SwitchOn)
    assert of(leader.asks(), GrantLease)
    assert of(leader.tell(SwitchRequested("r2", "p@n3")), Answer)[0].request_id == "r2"
    leader.tell(SwitchHeld("p", 1, "n1", hold.fence_id, Version(1, 9, 7)))
    assert of(leader.asks(), RefuseLease)
    leader.mirrored("n3", 9, asked=True)
    assert of(leader.mirrored("n2", 9, asked=True), ActivateOn) == [ActivateOn("n2", "p", 2, Version(1, 9, 7))]
    assert of(leader.serves("n2"), Answer) == [Answer("r", Ok("p@n2"))]
    assert leader.entry.takeovers == ()


def test_a_primary_hands_over_to_the_best_mirror() -> None:
    leader = up()
    [hold] = of(leader.tell(SwitchRequested("r", "p@n1")), SwitchOn)
    leader.tell(SwitchHeld("p", 1, "n1", hold.fence_id, Version(1, 9, 7)))
    leader.mirrored("n2", 8, asked=True)
    assert of(leader.mirrored("n3", 9, asked=True), ActivateOn)[0].node == "n3"


def test_the_original_of_a_switchover_is_taken_back_if_the_new_primary_does_not_come_up() -> None:
    leader = up()
    [hold] = of(leader.tell(SwitchRequested("r", "p@n2")), SwitchOn)
    final = Version(1, 9, 7)
    leader.tell(SwitchHeld("p", 1, "n1", hold.fence_id, final))
    leader.mirrored("n3", 9, asked=True)
    assert of(leader.mirrored("n2", 9, asked=True), ActivateOn)
    # It is not let go of: nobody serves yet.
    assert not of(leader.asks(), RefuseLease)[0].replaced
    leader.tell(ActivateFailed("p", 2, "n2", True, "it does not start"))
    original = Held("p@n1", 1, "fenced", final)
    leader.tell(MirrorReported("p", "n1", original, asked=True))
    assert of(leader.mirrored("n3", 9, asked=True, token=1), ActivateOn) == [ActivateOn("n1", "p", 3, final)]
    assert of(leader.serves("n1"), Answer) == [Answer("r", Ok("p@n1"))]


def test_a_switchover_whose_last_checkpoint_does_not_arrive_is_undone() -> None:
    leader = up()
    [hold] = of(leader.tell(SwitchRequested("r", "p@n2")), SwitchOn)
    leader.tell(SwitchHeld("p", 1, "n1", hold.fence_id, Version(1, 9, 7)))
    leader.mirrored("n2", 8, asked=True)
    leader.mirrored("n3", 9, asked=True)
    orders = leader.wait(0.3)
    assert [name for name in names(orders) if name in ("Unfence", "ResumeOn", "Answer")] == [
        "Unfence",
        "ResumeOn",
        "Answer",
    ]
    assert isinstance(of(orders, Answer)[0].result, Rejected)
    assert of(leader.asks(), GrantLease)


def test_a_switchover_that_the_agent_refuses_is_given_up() -> None:
    leader = up()
    leader.tell(SwitchRequested("r", "p@n2"))
    orders = leader.tell(SwitchFailed("p", 1, "n1", "no room"))
    assert names(orders) == ["ResumeOn", "Answer"]


@pytest.mark.parametrize("instance", ["p@n9", "q@n1", "nothing"])
def test_a_switchover_to_nowhere_is_refused(instance: str) -> None:
    [answer] = of(up().tell(SwitchRequested("r", instance)), Answer)
    assert isinstance(answer.result, Rejected)
    assert answer.result.code == "unknown"


def test_a_mirror_that_is_not_up_to_date_can_not_be_switched_to() -> None:
    leader = up()
    leader.tell(InstanceReported("p", "n2", "mirror", "syncing", 2, 1))
    [answer] = of(leader.tell(SwitchRequested("r", "p@n2")), Answer)
    assert isinstance(answer.result, Rejected)
    assert "is syncing" in answer.result.reason


def test_after_too_many_takeovers_it_is_started_without_its_context() -> None:
    leader = up(Policy(takeovers_max=0))
    leader.wait(1.0)
    leader.tell(KILLED)
    orders = leader.mirrored("n2", 6, asked=True)
    assert names(orders)[:3] == ["Note", "Started", "RestartOn"]
    assert leader.entry.token == 2
    last = leader.entry.last_failure
    assert last is not None
    assert (last.instance, last.reason) == ("p@n1", "too many takeovers: killed by signal 9")


def test_nobody_is_waited_for_who_could_have_no_more_than_the_last_checkpoint() -> None:
    leader = up()
    leader.wait(1.0)
    leader.mirrored("n2", 6)
    assert "ActivateOn" in names(leader.tell(KILLED)), "it said so before, and nothing follows the last checkpoint"


def test_who_told_the_primary_of_the_last_checkpoint_is_believed() -> None:
    leader = up()
    leader.wait(1.0)
    leader.mirrored("n2", 4)
    leader.mirrored("n3", 5)
    [order] = of(leader.tell(replace(KILLED, holders=("p@n2",))), ActivateOn)
    assert (order.node, order.version) == ("n2", Version(1, 6, 7))


def test_a_mirror_that_was_made_anew_meanwhile_is_not() -> None:
    leader = up()
    leader.wait(1.0)
    leader.mirrored("n2", 4)
    leader.tell(replace(KILLED, final=None))
    leader.mirrored("n2", 0, asked=True)
    assert not of(leader.tell(replace(KILLED, holders=("p@n2",))), ActivateOn)


def test_an_older_checkpoint_is_not_enough() -> None:
    leader = up()
    leader.wait(1.0)
    leader.mirrored("n2", 5)
    assert "ActivateOn" not in names(leader.tell(KILLED))
    assert "ActivateOn" not in names(leader.mirrored("n2", 5, asked=True))
    [order] = of(leader.mirrored("n3", 6, asked=True), ActivateOn)
    assert order.node == "n3"


def test_without_a_mirror_it_is_started_anew_and_each_time_later() -> None:
    leader = up()
    leader.tell(
        InstanceReported("p", "n2", "mirror", "failed", 1, 1), InstanceReported("p", "n3", "mirror", "failed", 1, 1)
    )
    leader.tell(KILLED)
    orders = leader.wait(2.1)
    assert of(orders, RestartOn)[0] == RestartOn("n1", "p", 2)
    starts = [2.0]
    for token in (2, 3, 4):
        leader.serves("n1")
        began_s = leader.now_s
        leader.tell(InstanceEnded("p", token, "n1", 0x100, None, True, "exited with 1"))
        while leader.entry.token == token:
            leader.wait(0.05)
        starts.append(leader.now_s - began_s)
    assert starts[1] < starts[2] < starts[3]


def test_restart_never_leaves_it_until_a_person_starts_it() -> None:
    leader = up(Policy(restart="never", takeovers_max=0))
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    assert leader.entry.instances[0].status == "failed"
    assert not of(leader.wait(3.0), RestartOn)
    assert of(leader.tell(StartRequested("start", "p")), RestartOn)


def test_a_mirror_that_was_up_to_date_is_waited_for_before_all_is_forgotten() -> None:
    leader = up()
    leader.tell(InstanceReported("p", "n3", "mirror", "failed", 1, 1))
    leader.silent.add("n2")
    leader.wait(0.5)
    leader.tell(KILLED)
    assert not of(leader.wait(1.5), RestartOn)
    leader.silent.clear()
    assert "n2" in of(leader.wait(0.3), AskMirrors)[-1].nodes
    assert of(leader.mirrored("n2", 6, asked=True), ActivateOn)


def test_stop_and_delete() -> None:
    leader = up()
    assert of(leader.tell(StopRequested("stop", "p", True)), TerminateOn) == [TerminateOn("n1", "p", 1)]
    orders = leader.tell(InstanceEnded("p", 1, "n1", 15, None, True, "killed by signal 15"))
    assert of(orders, Answer) == [Answer("stop", Ok("p"))]
    assert "p" not in leader.registry.programs
    assert not of(leader.orders, ActivateOn)


def test_the_mirrors_of_a_stopped_program_are_said_to_be_no_more() -> None:
    """Nobody has an agent then, so what they say is of no incarnation."""
    leader = up()
    leader.tell(StopRequested("stop", "p", False))
    orders = leader.tell(InstanceEnded("p", 1, "n1", 15, None, True, "killed by signal 15"))
    assert [one.node for one in of(orders, TerminateOn)] == ["n2", "n3"]
    leader.tell(*(InstanceReported("p", node, "mirror", "stopped", 0, 1) for node in ("n2", "n3")))
    assert [one.status for one in leader.entry.instances] == ["stopped"] * 3
    # An agent that is only started again is no end of the mirror.
    other = up()
    other.tell(InstanceReported("p", "n2", "mirror", "starting", 0, 1))
    assert other.entry.instances[1].status == "mirrored"


def test_what_can_not_be_started_can_be_deleted() -> None:
    """While it waits for the next try, and in the middle of one."""
    leader = Leader()
    leader.tell(NodeHeard("n1"), NodeHeard("n2"))
    leader.tell(ActivateFailed("p", 1, "n1", True, "/no/such does not exist"))
    leader.wait(3.0)
    leader.tell(ActivateFailed("p", leader.entry.token, leader.entry.primary, True, "/no/such does not exist"))
    orders = leader.tell(StopRequested("stop", "p", False))
    orders += leader.wait(3.0)
    assert of(orders, Answer) == [Answer("stop", Ok("p"))]
    assert not of(orders, RestartOn)

    assert of(leader.tell(StartRequested("start", "p")), RestartOn)
    [answer] = of(leader.tell(StopRequested("delete", "p", True)), Answer)
    assert (answer.request_id, answer.result) == ("start", Rejected("busy", "p was stopped before it had started"))
    orders = leader.tell(ActivateFailed("p", leader.entry.token, leader.entry.primary, True, "no such file"))
    assert Answer("delete", Ok("p")) in orders
    assert "p" not in leader.registry.programs


def test_what_can_not_be_reached_is_not_said_to_be_stopped() -> None:
    leader = up()
    leader.silent.add("n1")
    leader.tell(StopRequested("stop", "p", False))
    [answer] = of(leader.wait(0.3), Answer)
    assert isinstance(answer.result, Rejected)


def test_who_does_not_lead_decides_nothing_and_grants_nothing() -> None:
    leader = up()
    leader.tell(NotLeading())
    assert not leader.tell(KILLED, LeaseAsked("n1", "p", 1, 5.0), Tick())
    assert isinstance(of(leader.tell(SwitchRequested("r", "p@n2")), Answer)[0].result, Rejected)
    assert leader.core.deadline_s is None


def test_a_leader_whose_own_lease_ran_out_decides_nothing_until_it_holds_again() -> None:
    leader = up()
    leader.now_s += 0.4
    assert not leader.tell(KILLED)
    assert not leader.asks()
    assert names(leader.tell(Leading(1, leader.now_s + 0.3, 1e6)))[:2] == ["Fenced", "AskMirrors"]


def test_a_command_without_an_outcome_is_proposed_again_as_it_was() -> None:
    leader = up()
    leader.applies = False
    [order] = of(leader.tell(KILLED), Commit)
    leader.tell(Committed(order.command, None))
    assert order in leader.wait(0.25)


def test_a_new_leader_goes_on_where_the_one_before_stopped() -> None:
    leader = up()
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    new = Leader(registry=leader.registry, term=2)
    assert of(new.orders, ActivateOn) == [ActivateOn("n2", "p", 2, Version(1, 6, 7))]


def test_a_new_leader_goes_on_from_a_fence_that_stands() -> None:
    leader = up()
    leader.tell(KILLED)
    new = Leader(registry=leader.registry, term=2)
    assert names(new.orders) == ["TakeOffice", "AskMirrors"]
    new.mirrored("n2", 6, asked=True)
    assert of(new.mirrored("n3", 6, asked=True), ActivateOn)


def test_a_mirror_that_does_not_come_up_is_followed_by_the_next() -> None:
    leader = up()
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    leader.tell(ActivateFailed("p", 2, "n2", True, "no memory"))
    leader.mirrored("n3", 6, asked=True, token=1)
    assert of(leader.wait(0.1), ActivateOn) == [ActivateOn("n3", "p", 3, Version(1, 6, 7))]


def test_an_agent_that_dies_alone_is_waited_for_as_nothing_newer_is_held_elsewhere() -> None:
    leader = up()
    leader.tell(AgentLost("p", 1, "n1", True))
    for _ in range(70):
        leader.asks()
        assert not of(leader.wait(1.0), AskFence)
    leader.tell(InstanceReported("p", "n1", "primary", "running", 2, 1))
    leader.tell(AgentLost("p", 1, "n1", True))
    leader.asks()
    assert of(leader.tell(AgentLost("p", 1, "n1", False)), AskFence)


def test_an_agent_that_takes_the_program_along_is_a_failure_at_once() -> None:
    assert of(up().tell(AgentLost("p", 1, "n1", False)), AskFence)


def test_a_program_that_does_not_answer_is_fenced_and_continued() -> None:
    leader = up()
    leader.wait(1.0)
    leader.asks()
    assert of(leader.tell(HealthChanged("p", 1, "port 6379 refuses")), AskFence)
    assert of(leader.tell(HealthChanged("p", 1, "")), ResumeOn)


def test_the_restart_of_a_daemon_that_was_announced_is_no_loss() -> None:
    leader = up()
    leader.registry.apply(Extend("extend", "p", 1, 3))
    leader.tell(RegistryChanged("p"), NodeClosed("n1"))
    leader.silent.add("n1")
    assert not commands(leader.wait(2.9))
    leader.wait(0.3)
    assert leader.entry.fence is not None
    assert leader.entry.extension is None


def test_an_instance_of_an_older_token_is_told_so() -> None:
    leader = up()
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    leader.serves("n2")
    [refused] = of(leader.asks(), RefuseLease)
    assert refused.replaced


def test_every_decision_names_what_it_rests_on() -> None:
    leader = up()
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    [promote] = [one for one in commands(leader.orders) if isinstance(one, Promote)]
    [fenced] = [one for one in commands(leader.orders) if isinstance(one, Fenced)]
    assert (promote.expected_token, promote.fence_id, promote.term) == (1, fenced.fence_id, 1)
    assert not [one for one in commands(leader.orders) if isinstance(one, Started | Unfence)]
