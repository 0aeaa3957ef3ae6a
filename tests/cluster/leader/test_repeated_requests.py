"""A person who has no answer asks again: of another leader, or after the change; it is done once."""

from __future__ import annotations

from cluster.leader.news import NodeHeard, SwitchHeld, SwitchRequested
from cluster.leader.orders import ActivateOn, Answer, SwitchOn
from cluster.registry.commands import Ok, Promote
from tests.cluster.leader.a_leader import Leader, commands, of
from transport.checkpoint import Version

ASKED = SwitchRequested("r", "p@n2")


def _switched() -> Leader:
    """Agreed, but the new primary is not up yet."""
    leader = Leader()
    leader.up()
    [hold] = of(leader.tell(ASKED), SwitchOn)
    leader.tell(SwitchHeld("p", 1, "n1", hold.fence_id, Version(1, 9, 7)))
    leader.mirrored("n3", 9, asked=True)
    [promote] = [one for one in commands(leader.mirrored("n2", 9, asked=True)) if isinstance(one, Promote)]
    assert promote.asked_by == "r"
    return leader


def test_a_request_that_an_earlier_leader_carried_out_is_answered_when_the_new_primary_serves() -> None:
    leader = Leader(registry=_switched().registry, term=2)
    leader.tell(NodeHeard("n1"), NodeHeard("n2"))
    assert leader.tell(ASKED) == []
    assert of(leader.orders, ActivateOn) == [ActivateOn("n2", "p", 2, Version(1, 9, 7))]
    assert of(leader.serves("n2"), Answer) == [Answer("r", Ok("p@n2"))]
    assert not of(leader.wait(1.0), SwitchOn)
    assert leader.entry.token == 2


def test_a_request_that_is_repeated_later_is_answered_at_once() -> None:
    leader = _switched()
    leader.serves("n2")
    assert leader.tell(ASKED) == [Answer("r", Ok("p@n2"))]
    assert not of(leader.wait(1.0), SwitchOn)


def test_a_leader_that_resigns_meanwhile_says_that_it_does_not_know() -> None:
    leader = Leader(registry=_switched().registry, term=2)
    leader.tell(NodeHeard("n1"), NodeHeard("n2"), ASKED)
    [answer] = of([order for watch in leader.core._watches.values() for order in watch.resign()], Answer)
    assert answer.request_id == "r"
    assert not isinstance(answer.result, Ok)
