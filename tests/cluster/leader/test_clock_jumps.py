"""The wall clock of the leader jumps: what counts by it is off by the jump, and who serves is no part of that."""

from __future__ import annotations

import pytest

from cluster.leader.news import InstanceEnded, Leading, LeaseAsked, RegistryChanged, Tick
from cluster.leader.orders import ActivateOn, AskFence, GrantLease, RestartOn
from cluster.registry.commands import Pause
from cluster.registry.values import Policy
from tests.cluster.leader.a_leader import KILLED, Leader, of, up
from transport.checkpoint import Version

DAY_S = 86_400.0
WALL_S = 1e6


def jump(leader: Leader, by_s: float) -> None:
    """The wall clock is set; CLOCK_BOOTTIME goes on."""
    leading = Leading(leader.term, leader.now_s + 0.29, WALL_S + leader.now_s - 100 + by_s)
    leader.tell(leading, RegistryChanged("p"), Tick())


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S, 30 * 365 * DAY_S])
def test_nobody_is_fenced_and_leases_are_as_long_as_before(by_s: float) -> None:
    leader = up()
    asked = LeaseAsked("n1", "p", 1, leader.now_s)
    [before] = of(leader.tell(asked), GrantLease)
    leader.orders.clear()
    jump(leader, by_s)
    [after] = of(leader.tell(asked), GrantLease)
    assert after.granted_s == pytest.approx(before.granted_s, abs=0.011)
    assert not of(leader.orders, AskFence)
    assert leader.entry.primary == "n1"


def test_a_pause_ends_by_the_wall_clock() -> None:
    leader = up()
    leader.registry.apply(Pause("pause", "p", int(WALL_S) + 3600))
    leader.tell(RegistryChanged("p"))
    paused = []
    for by_s in (-DAY_S, DAY_S):
        jump(leader, by_s)
        paused.append(leader.entry.paused)
    assert paused == [True, False]
    # What is so because of it: failover, and nothing else.
    assert leader.entry.primary == "n1"


def failed_again(leader: Leader) -> list[object]:
    """The program dies under every token that it has had so far, and mirrors hold its last checkpoint."""
    token, primary = leader.entry.token, leader.entry.primary
    orders = list(leader.tell(InstanceEnded("p", token, primary, 9, Version(token, 6, 7), True, "killed by signal 9")))
    for node in {"n1", "n2", "n3"} - {primary}:
        orders += leader.mirrored(node, 6, asked=True)
    return list(orders)


@pytest.mark.parametrize(("by_s", "anew"), [(0.0, True), (-DAY_S, True), (DAY_S, False)])
def test_takeovers_are_counted_by_the_wall_clock(by_s: float, anew: bool) -> None:
    """Back: those before the jump are in the future, and count. Forwards: they are long ago, and a state that fails is
    continued some times more."""
    leader = up(Policy(takeovers_max=1))
    leader.tell(KILLED)
    leader.mirrored("n2", 6, asked=True)
    leader.mirrored("n3", 6, asked=True)
    assert (leader.entry.token, leader.entry.primary) == (2, "n2")
    leader.serves("n2")
    leader.mirrored("n1", 3)
    leader.mirrored("n3", 3)
    leader.wait(1.0)
    jump(leader, by_s)
    orders = failed_again(leader)
    kinds = {type(order) for order in orders}
    assert (RestartOn in kinds, ActivateOn in kinds) == (anew, not anew)
