"""Heartbeats as news: a change is told once to each leader, what must not be lost every time."""

from __future__ import annotations

from dataclasses import replace

from cluster.leader.news import (
    AgentLost,
    HealthChanged,
    InstanceEnded,
    InstanceReported,
    MirrorReported,
    News,
    NodeHeard,
)
from cluster.node.desk import Desk
from cluster.node.messages import Ended, Heartbeat, InstanceState, Load
from transport.checkpoint import NOTHING, Version

LOAD = Load(0.25, 1 << 30, 7.5)
PRIMARY = InstanceState(
    program="redis",
    incarnation=5,
    role="primary",
    status="running",
    reason="",
    token=3,
    version=Version(3, 9, 1),
    captured_ns=0,
    staleness_ms=0.0,
    stream="10.0.0.1:7500",
    fence_id="",
    lease_out=False,
    agent_lost=False,
    ended=None,
    unhealthy="",
)
MIRROR = replace(PRIMARY, role="mirror", status="mirrored", captured_ns=77, staleness_ms=12.5)


def kinds(news: list[News]) -> list[type]:
    """Of which kinds they are."""
    return [type(one) for one in news]


def beat(*states: InstanceState) -> Heartbeat:
    """A heartbeat with these."""
    return Heartbeat(1, 2, LOAD, states)


def test_a_change_is_told_once() -> None:
    desk = Desk()
    assert kinds(desk.heartbeat("a", beat(PRIMARY))) == [NodeHeard, InstanceReported]
    assert kinds(desk.heartbeat("a", beat(PRIMARY))) == [NodeHeard]
    # Another checkpoint is no change of what it is.
    assert kinds(desk.heartbeat("a", beat(replace(PRIMARY, version=Version(3, 10, 1))))) == [NodeHeard]
    _, report = desk.heartbeat("a", beat(replace(PRIMARY, status="fenced", fence_id="f")))
    assert isinstance(report, InstanceReported)
    assert (report.status, report.fence_id) == ("fenced", "f")
    desk.forget_told("b")
    assert kinds(desk.heartbeat("a", beat(replace(PRIMARY, status="fenced", fence_id="f")))) == [NodeHeard]
    desk.forget_told()
    assert kinds(desk.heartbeat("a", beat(PRIMARY))) == [NodeHeard, InstanceReported]


def test_what_must_not_be_lost_is_told_every_time() -> None:
    desk = Desk()
    ended = Ended(3, 9, Version(3, 10, 2), True, True, False, "killed", 4000)
    dead = replace(PRIMARY, status="failed", ended=ended)
    desk.heartbeat("a", beat(dead))
    _, news = desk.heartbeat("a", beat(dead))
    assert news == InstanceEnded("redis", 3, "a", 9, Version(3, 10, 2), True, "killed", 0.004)
    _, news, _ = desk.heartbeat("a", beat(replace(PRIMARY, agent_lost=True)))
    assert news == AgentLost("redis", 3, "a", alive=True)


def test_what_mirrors_hold() -> None:
    desk = Desk()
    desk.heartbeat("b", beat(MIRROR))
    _, held = desk.heartbeat("b", beat(MIRROR))
    assert isinstance(held, MirrorReported)
    assert not held.asked
    assert (held.held.instance, held.held.version, held.held.captured_ns) == ("redis@b", Version(3, 9, 1), 77)
    assert (held.held.load, held.held.latency_ms, held.held.unwell) == (LOAD.cpu, 7.5, "")
    (answer,) = desk.answer("redis", "b", MIRROR, LOAD)
    assert isinstance(answer, MirrorReported)
    assert answer.asked
    (answer,) = desk.answer("redis", "c", None, LOAD)
    assert isinstance(answer, MirrorReported)
    assert (answer.held.status, answer.held.version, answer.asked) == ("stopped", NOTHING, True)


def test_what_speaks_against_a_mirror_is_of_its_node_or_of_itself() -> None:
    desk = Desk()
    news = desk.answer("redis", "b", replace(MIRROR, unhealthy="keepalived is not running"), LOAD)
    news += desk.answer("redis", "b", MIRROR, replace(LOAD, trouble="it has no watchdog"))
    held = [one.held.unwell for one in news if isinstance(one, MirrorReported)]
    assert held == ["keepalived is not running", "it has no watchdog"]
    # It is no failed health check of what serves.
    assert not any(isinstance(one, HealthChanged) for one in news)


def test_where_to_subscribe() -> None:
    desk = Desk()
    assert desk.stream_of("redis", "a") == ""
    desk.heartbeat("a", beat(PRIMARY))
    assert desk.stream_of("redis", "a") == "10.0.0.1:7500"
    desk.heartbeat("a", beat())
    assert desk.stream_of("redis", "a") == ""
