"""How near the others are, and what a node knows against itself."""

from __future__ import annotations

import pytest

from cluster.node.condition import LATE_S, Condition
from cluster.node.messages import Echo
from cluster.node.round_trips import RoundTrips

MS = 1_000_000
FAR = {"a": 0, "b": 40 * MS, "c": 900 * MS}
"""How far the clocks of nodes are apart: nothing may come of it."""


def say(one: RoundTrips, name: str, other: RoundTrips, node: str, now_ns: int, way_ns: int) -> None:
    """A heartbeat of `one` at `now_ns`, which takes `way_ns` to `other`."""
    echoes = one.echoes(now_ns + FAR[name])
    other.heard(now_ns + way_ns + FAR[node], name, now_ns + FAR[name], echoes)


def test_a_round_trip_is_the_way_there_and_back_whatever_clocks_say() -> None:
    a, b = RoundTrips("a"), RoundTrips("b")
    assert a.latency_ms() == 0
    for beat in range(40):
        say(a, "a", b, "b", beat * 50 * MS, 3 * MS)
        say(b, "b", a, "a", beat * 50 * MS + 20 * MS, 4 * MS)
    assert a.latency_ms() == pytest.approx(7)
    assert b.latency_ms() == pytest.approx(7)
    a.forget("b")
    assert (a.latency_ms(), a.echoes(0)) == (0, ())


def test_one_slow_answer_is_smoothed_and_one_far_node_makes_nobody_far() -> None:
    a = RoundTrips("a")
    for node, took_ms in (("b", 2), ("c", 80), ("d", 4)):
        a.heard(100 * MS, node, 0, [Echo("a", (100 - took_ms) * MS, 0)])
    assert a.latency_ms() == pytest.approx(4)
    a.heard(200 * MS, "d", 0, [Echo("a", 116 * MS, 0)])
    assert a.latency_ms() == pytest.approx(14)


def test_what_others_are_told_and_what_can_not_be_is_not_counted() -> None:
    a = RoundTrips("a")
    a.heard(100 * MS, "b", 0, [Echo("c", 10 * MS, 0), Echo("a", 99 * MS, 5 * MS)])
    assert a.latency_ms() == 0


def trouble(condition: Condition, now_s: float = 0.0, *, watched: bool = True, free_bytes: int = 1 << 30) -> str:
    """Of a node with 2 GiB."""
    return condition.trouble(now_s, watched=watched, free_bytes=free_bytes, total_bytes=2 << 30)


def test_what_a_node_says_against_itself() -> None:
    condition = Condition(0.2)
    assert trouble(condition) == ""
    assert trouble(condition, watched=False).startswith("it has no watchdog")
    assert trouble(condition, free_bytes=70 << 20) == "it has 70 MiB of memory left"


def test_a_node_that_was_late_says_so_for_a_while() -> None:
    condition = Condition(0.2)
    condition.beat(5.0, 0.19)
    assert trouble(condition, 5.0) == ""
    condition.beat(6.0, 0.43)
    condition.beat(6.1, 0.21)
    assert trouble(condition, 6.2) == "it was 430 ms late with a heartbeat of late"
    assert trouble(condition, 6.1 + LATE_S) == ""
    condition.beat(30.0, 0.25)
    assert "250 ms" in trouble(condition, 30.1)
