"""Where no answer of a mirror can matter, none is waited for: the promotion is proposed right behind the fence."""

from __future__ import annotations

from dataclasses import replace

from cluster.leader.news import Committed, SwitchHeld, SwitchRequested
from cluster.leader.orders import ActivateOn, GetReadyOn, SwitchOn
from cluster.registry.commands import Fenced, Promote, Rejected
from tests.cluster.leader.a_leader import KILLED, commands, names, of, up
from transport.checkpoint import Version


def test_where_no_answer_can_matter_the_promotion_is_proposed_right_behind_the_fence() -> None:
    leader = up()
    leader.applies = False
    orders = leader.tell(replace(KILLED, holders=("p@n2",)))
    assert names(orders) == ["Fenced", "Promote", "GetReadyOn"]
    assert of(orders, GetReadyOn) == [GetReadyOn("n2", "p", 2, Version(1, 6, 7))]
    fenced, promoted = commands(orders)
    assert isinstance(fenced, Fenced)
    assert isinstance(promoted, Promote)
    assert promoted.fence_id == fenced.fence_id
    # Should it come first it has no effect, and is proposed again when the fence is agreed.
    refused = leader.registry.apply(promoted)
    assert isinstance(refused, Rejected)
    leader.applies = True
    assert names(leader.tell(Committed(promoted, refused))) == ["AskMirrors"]
    [order] = of(leader.tell(Committed(fenced, leader.registry.apply(fenced))), ActivateOn)
    assert (order.node, leader.entry.token) == ("n2", 2)


def test_who_is_asked_for_by_name_need_not_be_asked_what_it_holds_if_that_is_known() -> None:
    for holders, ordered in (
        (("p@n2",), ["Fenced", "AskMirrors"]),
        (("p@n2", "p@n3"), ["Fenced", "Promote", "GetReadyOn"]),
    ):
        leader = up()
        leader.wait(1.0)
        [order] = of(leader.tell(SwitchRequested("r", "p@n3")), SwitchOn)
        leader.applies = False
        held = SwitchHeld("p", 1, "n1", order.fence_id, Version(1, 6, 7), holders)
        orders = leader.tell(held)
        assert names(orders) == ordered
        assert {one.instance for one in commands(orders) if isinstance(one, Promote)} <= {"p@n3"}
