"""The report: the JSON object, and the promises that a run is held to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kagemusha.demo.report import Pauses, Report, Takeover

GOOD = Takeover(
    kind="process_killed",
    source="a",
    target="b",
    token=2,
    gap_ms=9.123,
    gaps_ms={"busy": 9.123},
    writes_acknowledged=1000,
    writes_lost=0,
    beyond_staleness=False,
    staleness_reported_ms=43.0,
    connections_idle=20,
    connections_idle_survived=20,
    connections_busy=20,
    connections_busy_survived=20,
    connections_reset=0,
    connections_hung=0,
)


def test_the_json_object_has_these_names_and_no_others() -> None:
    report = Report("redis-server", 50, memory_mib=120, checkpoints=7, pauses=Pauses(500.4, 900.0, 1000.0))
    report.unmirrored_per_second, report.mirrored_per_second = 60_000.0, 45_000.0
    report.takeovers = [GOOD]
    assert json.loads(report.to_json()) == {
        "program": "redis-server",
        "memory_mib": 120,
        "checkpoints": 7,
        "interval_ms": 50,
        "pause_us": {"p50": 500, "p99": 900, "max": 1000},
        "throughput_ratio": 0.75,
        "takeovers": [
            {
                "kind": "process_killed",
                "from": "a",
                "to": "b",
                "token": 2,
                "gap_ms": 9.12,
                "writes_acknowledged": 1000,
                "writes_lost": 0,
                "staleness_reported_ms": 43.0,
                "connections_idle": 20,
                "connections_idle_survived": 20,
                "connections_busy": 20,
                "connections_busy_survived": 20,
                "connections_reset": 0,
                "connections_hung": 0,
            }
        ],
    }
    assert "\n" not in report.to_json()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"connections_hung": 1, "hung_names": ["anew 3"]}, "connections hung: anew 3"),
        ({"writes_lost": 3}, "3 acknowledged writes were lost"),
        ({"beyond_staleness": True}, "older than the reported staleness"),
        ({"connections_idle_survived": 19}, "19 of 20 idle"),
        ({"connections_busy_survived": 19}, "19 of 20 busy"),
    ],
)
def test_each_broken_promise_is_named(change: dict[str, Any], complaint: str) -> None:
    assert not GOOD.broken_promises()
    (line,) = replace(GOOD, **change).broken_promises()
    assert line.startswith("process_killed a -> b (token 2): ")
    assert complaint in line


def test_a_killed_node_may_lose_what_its_staleness_covers_and_busy_connections() -> None:
    lost = replace(GOOD, kind="node_killed", writes_lost=100, connections_busy_survived=0, connections_reset=20)
    assert not lost.broken_promises()
    assert replace(lost, beyond_staleness=True).broken_promises()


def test_under_a_cluster_it_is_said_what_its_leader_did() -> None:
    takeover = replace(GOOD, raft_leader=False, parts_ms={"detect": 5.0004, "fence": 0.0})
    assert takeover.public() == {
        **GOOD.public(),
        "raft_leader": False,
        "timeline_ms": {"detect": 5.0, "fence": 0.0},
    }


def test_the_median_gap_is_per_kind_and_the_leaders_node_is_a_kind_of_its_own() -> None:
    report = Report("redis-server", 50)
    report.takeovers = [replace(GOOD, gap_ms=gap) for gap in (1.0, 3.0, 100.0)]
    assert report.gap_ms("process_killed") == 3.0
    assert report.gap_ms("switchover") is None
    report.takeovers = [replace(GOOD, kind="node_killed", gap_ms=400.0, raft_leader=False)]
    report.takeovers += [replace(GOOD, kind="node_killed", gap_ms=700.0, raft_leader=True)]
    assert (report.gap_ms("node_killed"), report.gap_ms("node_killed", leader=True)) == (400.0, 700.0)


def test_load_is_told_by_what_redis_does_with_its_mirrors() -> None:
    report = Report("redis-server", 50, mirrors=2, mirrored_per_second=20_000.0, load_per_second=11_000.0)
    assert (report.mirrors_in_words, report.load_ratio) == ("2 mirrors", 0.55)
    assert Report("redis-server", 50).load_ratio == 0.0
