"""Mirrors are kept at the present primary, and who is in step is agreed: seldom."""

from __future__ import annotations

from cluster.leader.news import InstanceEnded, InstanceReported, NodeClosed, NodeHeard
from cluster.leader.office import Patience
from cluster.leader.orders import RebuildOn
from cluster.registry.commands import SetInSync
from cluster.registry.values import MirrorMember, Policy
from tests.cluster.leader.a_leader import Leader, commands, names, of
from transport.checkpoint import Version

N2, N3 = MirrorMember("p@n2", 1), MirrorMember("p@n3", 1)


def _in_step(leader: Leader) -> list[MirrorMember]:
    return list(leader.entry.in_sync)


def test_who_holds_a_checkpoint_of_the_present_primary_is_in_step() -> None:
    leader = Leader()
    leader.up()
    assert _in_step(leader) == [N2, N3]
    # Not with every checkpoint.
    leader.orders.clear()
    leader.mirrored("n2", 6)
    leader.mirrored("n3", 7)
    leader.wait(3.0)
    assert commands(leader.orders) == []


def test_a_mirror_whose_node_is_lost_is_not_in_step_until_it_is_back() -> None:
    leader = Leader()
    leader.up()
    leader.silent.add("n2")
    leader.tell(NodeClosed("n2"))
    assert _in_step(leader) == [N3]
    leader.silent.clear()
    leader.tell(NodeHeard("n2"))
    leader.wait(1.1)
    assert _in_step(leader) == [N2, N3]


def test_a_mirror_that_was_started_again_comes_in_with_its_first_checkpoint() -> None:
    leader = Leader()
    leader.up()
    leader.tell(InstanceReported("p", "n2", "mirror", "syncing", 2, 1))
    assert _in_step(leader) == [N3]


def test_after_a_takeover_nobody_is_in_step_with_the_new_primary_before_it_has_its_checkpoint() -> None:
    leader = Leader()
    leader.up()
    leader.tell(InstanceEnded("p", 1, "n1", 9, Version(1, 6, 7), True, "killed by signal 9"))
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    leader.serves("n2")
    leader.mirrored("n3", 6, token=1)
    assert _in_step(leader) == []
    leader.mirrored("n3", 7)
    leader.wait(1.1)
    assert _in_step(leader) == [N3]


def test_under_sync_it_is_not_the_leader_that_proposes_who_is_waited_for() -> None:
    leader = Leader(Policy(guarantee="sync"))
    leader.up()
    assert not [one for one in commands(leader.orders) if isinstance(one, SetInSync)]


def test_a_mirror_that_does_not_begin_to_follow_is_told_again() -> None:
    """Its daemon ended after it had started an agent, and before it had told it whom to follow."""
    leader = Leader()
    leader.up()
    leader.orders.clear()
    leader.tell(InstanceReported("p", "n2", "mirror", "starting", 2, 1))
    seconds = round(Patience().begin_s)
    _serves_for(leader, seconds - 1)
    assert of(leader.orders, RebuildOn) == []
    _serves_for(leader, 2)
    assert [one.node for one in of(leader.orders, RebuildOn)] == ["n2"]
    # It has as long again, and nothing more is to be done when it follows.
    _serves_for(leader, seconds - 2)
    leader.tell(InstanceReported("p", "n2", "mirror", "syncing", 2, 1))
    _serves_for(leader, 2 * seconds)
    assert len(of(leader.orders, RebuildOn)) == 1


def test_a_node_that_was_away_is_tried_at_once_however_often_it_had_failed() -> None:
    leader = Leader()
    leader.up()
    leader.tell(InstanceReported("p", "n2", "mirror", "failed", 1, 1))
    _serves_for(leader, 40)
    leader.orders.clear()
    _serves_for(leader, 10)
    assert of(leader.orders, RebuildOn) == []
    leader.silent.add("n2")
    leader.tell(NodeClosed("n2"))
    _serves_for(leader, 1)
    leader.silent.clear()
    leader.tell(NodeHeard("n2"))
    assert [one.node for one in of(leader.orders, RebuildOn)] == ["n2"]


def _serves_for(leader: Leader, seconds: int) -> None:
    """The primary asks for its lease so long."""
    for _ in range(seconds):
        leader.asks()
        leader.wait(1.0)


def test_mirrors_follow_an_agent_that_was_started_again_elsewhere() -> None:
    leader = Leader()
    leader.up()
    at = "10.0.0.1:7500"
    leader.tell(InstanceReported("p", "n1", "primary", "running", 1, 1, stream=at))
    leader.orders.clear()
    leader.wait(1.1)
    assert "RebuildOn" not in names(leader.orders)
    leader.tell(InstanceReported("p", "n1", "primary", "running", 2, 1, stream="10.0.0.1:7501"))
    leader.wait(0.1)
    assert of(leader.orders, RebuildOn) == [RebuildOn("n2", "p", "n1", 1), RebuildOn("n3", "p", "n1", 1)]
    leader.orders.clear()
    leader.wait(3.0)
    assert "RebuildOn" not in names(leader.orders)
