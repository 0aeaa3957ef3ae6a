"""A person who has no answer asks again: of another leader, or after the change; it is done once."""

from __future__ import annotations

import pytest

from cluster.leader.news import (
    Committed,
    InstanceEnded,
    NodeHeard,
    RegistryChanged,
    StartRequested,
    StopRequested,
    SwitchHeld,
    SwitchRequested,
    Tick,
)
from cluster.leader.orders import ActivateOn, Answer, Commit, RestartOn, SwitchOn, TerminateOn
from cluster.registry.commands import CreateProgram, DeleteProgram, Ok, Promote, Started
from tests.cluster.leader.a_leader import NODES, Leader, commands, of
from transport.checkpoint import Version

ASKED = SwitchRequested("r", "p@n2")


def _next(before: Leader, term: int = 2) -> Leader:
    """Who leads after that one, by what was agreed, and has heard of all."""
    leader = Leader(registry=before.registry, term=term)
    leader.tell(NodeHeard("n1"), NodeHeard("n2"))
    return leader


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
    leader = _next(_switched())
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


START = StartRequested("s", "p")
STOPPED = InstanceEnded("p", 1, "n1", 15, None, True, "killed by signal 15")


def _started() -> Leader:
    """Stopped, and agreed who starts it again; it is not up yet."""
    leader = Leader()
    leader.up()
    leader.tell(StopRequested("stop", "p", False), STOPPED)
    [started] = [one for one in commands(leader.tell(START)) if isinstance(one, Started)]
    assert started.asked_by == "s"
    return leader


def test_a_start_that_an_earlier_leader_agreed_on_is_answered_when_the_program_serves() -> None:
    leader = _next(_started())
    assert leader.tell(START) == []
    assert of(leader.serves(leader.entry.primary), Answer) == [Answer("s", Ok("p@n1"))]
    assert leader.entry.token == 2


def test_a_start_that_is_asked_for_again_later_does_not_start_what_was_stopped_since() -> None:
    leader = _started()
    leader.serves("n1")
    leader.tell(StopRequested("stop-2", "p", False))
    leader.tell(InstanceEnded("p", 2, "n1", 15, None, True, "killed by signal 15"))
    assert leader.tell(START) == [Answer("s", Ok("p@n1"))]
    assert not of(leader.wait(1.0), RestartOn)


DELETE = StopRequested("d", "p", True)


def _deleted() -> Leader:
    leader = Leader()
    leader.up()
    leader.tell(DELETE)
    assert of(leader.tell(STOPPED), Answer) == [Answer("d", Ok("p"))]
    return leader


@pytest.mark.parametrize("term", [1, 2])
def test_a_deletion_that_is_asked_for_again_is_done_already(term: int) -> None:
    leader = _next(_deleted(), term)
    assert leader.tell(DELETE) == [Answer("d", Ok("p"))]


def test_a_deletion_that_is_asked_for_again_spares_the_program_that_was_created_since() -> None:
    leader = Leader(registry=_deleted().registry, term=2)
    leader.registry.apply(CreateProgram("create-2", "p", "/p.toml", "ab" * 32, NODES))
    leader.tell(NodeHeard("n1"), NodeHeard("n2"))
    orders = leader.tell(DELETE)
    assert of(orders, Answer) == [Answer("d", Ok("p"))]
    assert not of(orders + leader.wait(1.0), TerminateOn)
    assert "p" in leader.registry.programs


def test_a_deletion_is_answered_as_done_even_where_its_outcome_is_told_late() -> None:
    leader = Leader()
    leader.up()
    leader.tell(DELETE)
    [set_instance] = [one.command for one in of(leader.core.step(leader.now_s, STOPPED), Commit)]
    leader.applies = False
    [delete] = commands(leader.tell(Committed(set_instance, leader.registry.apply(set_instance))))
    assert isinstance(delete, DeleteProgram)
    result = leader.registry.apply(delete)
    assert of(leader.tell(Tick()), Answer) == []  # nothing is due
    assert of(leader.tell(RegistryChanged("p")), Answer) == [Answer("d", Ok("p"))]
    assert leader.tell(Committed(delete, result)) == []
