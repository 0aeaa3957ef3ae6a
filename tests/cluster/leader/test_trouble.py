"""A node that is heard, and does not ask for the lease of the primary that it is said to have: nobody serves there."""

from __future__ import annotations

from cluster.leader.news import (
    Committed,
    Leading,
    MirrorReported,
    NodeHeard,
    RegistryChanged,
    StartRequested,
    SwitchRequested,
    Tick,
)
from cluster.leader.orders import ActivateOn, AskFence, GrantLease, Note, ResumeOn
from cluster.leader.selection import Held
from cluster.registry.commands import Extend, Fenced, SetInstance
from tests.cluster.leader.a_leader import KILLED, Leader, commands, of, paused, up
from transport.checkpoint import Version

PATIENCE_S = 5.0
WHY = "node n1 does not ask for the program's lease any more"


def _asks_for(leader: Leader, seconds: int) -> None:
    for _ in range(seconds):
        leader.asks()
        assert not commands(leader.wait(1.0))


def _goes_on(leader: Leader) -> set[str]:
    """The mirrors say what they hold; gives the nodes that are told to go on."""
    given = leader.mirrored("n2", 5, asked=True) + leader.mirrored("n3", 5, asked=True)
    return {one.node for one in of(given + leader.wait(0.5), ActivateOn)}


def test_a_mirror_goes_on_when_the_primarys_node_has_not_asked_for_long() -> None:
    leader = up()
    _asks_for(leader, 20)
    assert not commands(leader.wait(PATIENCE_S - 1.0))
    leader.wait(2.0)
    assert _goes_on(leader) == {"n2"}
    assert leader.serves("n2")
    assert [note.what.partition(";")[0] for note in of(leader.orders, Note)] == [f"p@n2 serves: {WHY}"]


def test_the_lease_must_have_ended_as_well() -> None:
    leader = up()
    assert of(leader.asks(), GrantLease)
    leader.registry.apply(Extend("extend", "p", 1, 30))
    leader.tell(RegistryChanged("p"))
    leader.wait(30.0 + PATIENCE_S - 1.0)
    assert leader.entry.token == 1
    leader.wait(2.0)
    assert _goes_on(leader) == {"n2"}


def test_who_asks_again_while_it_is_being_fenced_serves_on() -> None:
    leader = up()
    leader.applies = False
    [fenced] = {one for one in commands(leader.wait(PATIENCE_S + 0.5)) if isinstance(one, Fenced)}
    leader.asks()
    leader.applies = True
    leader.tell(Committed(fenced, leader.registry.apply(fenced)))
    assert of(leader.orders, ResumeOn)
    assert (leader.entry.fence, leader.entry.primary, leader.entry.token) == (None, "n1", 1)


def test_a_new_leader_and_one_that_could_not_decide_for_a_while_count_from_then_on() -> None:
    leader = up()
    _asks_for(leader, 1)
    leader.now_s += 60.0  # It sleeps, and all with it; its lease is renewed when they wake.
    leader.tell(Leading(1, leader.now_s + 0.29, 1e6), NodeHeard("n1"), NodeHeard("n2"), Tick())
    assert not commands(leader.wait(PATIENCE_S - 0.5))
    later = Leader(registry=leader.registry, term=2)
    later.tell(NodeHeard("n1"), NodeHeard("n2"))
    assert not of(later.wait(PATIENCE_S - 0.5), AskFence)
    assert (later.entry.primary, later.entry.token) == ("n1", 1)


def test_a_program_without_a_mirror_is_waited_for_where_its_node_knows_it() -> None:
    leader = Leader()
    leader.tell(NodeHeard("n1"), NodeHeard("n2"))
    leader.serves("n1")
    leader.orders.clear()
    leader.wait(4 * PATIENCE_S)
    assert (leader.entry.primary, leader.entry.token) == ("n1", 1)
    leader.mirrored("n2", 5)
    leader.wait(0.5)
    leader.mirrored("n2", 5, asked=True)
    assert {one.node for one in of(leader.orders, ActivateOn)} == {"n2"}


def test_where_its_node_knows_nothing_of_it_and_there_is_no_mirror_it_is_started_anew() -> None:
    before = Leader()
    before.tell(NodeHeard("n1"), NodeHeard("n2"))
    before.serves("n1")
    leader = Leader(registry=before.registry, term=2)
    leader.tell(NodeHeard("n1"), NodeHeard("n2"))
    leader.wait(PATIENCE_S + 3.0)
    assert leader.entry.token == 2
    assert leader.entry.last_promotion is not None
    assert leader.entry.last_promotion.version.number == 0


def test_in_maintenance_and_in_a_switchover_nobody_has_to_ask() -> None:
    leader = up()
    paused(leader, True)
    leader.wait(4 * PATIENCE_S)
    assert (leader.entry.primary, leader.entry.token) == ("n1", 1)

    leader = up()
    leader.asks()
    leader.wait(PATIENCE_S - 1.0)
    leader.tell(SwitchRequested("switch", "p@n2"))
    leader.wait(3.0)
    assert not of(leader.orders, AskFence)


def test_a_primary_that_takes_long_to_come_up_has_all_its_time() -> None:
    leader = up()
    leader.tell(KILLED)
    leader.tell(MirrorReported("p", "n2", Held("p@n2", 1, "mirrored", Version(1, 6, 7), 6), True))
    leader.wait(4.0)
    assert leader.entry.primary == "n2"
    leader.serves("n2")
    assert not [one for one in commands(leader.wait(PATIENCE_S - 1.0)) if not isinstance(one, SetInstance)]
    assert not of(leader.orders, AskFence)


def test_a_stopped_program_asks_for_nothing() -> None:
    leader = up()
    one = leader.entry.primary_instance
    assert one is not None
    leader.registry.apply(SetInstance("stopped", "p", one.instance, "primary", "stopped", 1, "", 1))
    assert not commands(leader.wait(4 * PATIENCE_S))
    leader.tell(StartRequested("start", "p"))
    assert leader.entry.token == 2
