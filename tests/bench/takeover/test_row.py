"""Rows of figures: what they say of the runs, and that whatever must not be is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.bench.takeover.row import One, Promise, broken_promises, judged, row

GOOD = One(gap_ms=20.0, gaps_ms={"busy": 20.0, "anew": 12.0}, overlaps=(), lost=0, reset=0, hung=0)
STRICT = Promise(50.0, keeps_writes=True)
OUTCOME: dict[str, Any] = {
    "gap_ns": 31_000_000,
    "gaps_ns": {"busy": 31_000_000},
    "writes_lost": 2,
    "reset": 3,
    "hung": 0,
    "foreign": ["write 3 found 7"],
    "silent": ["busy 4"],
}


def test_a_row_has_the_spread_of_all_runs_and_the_medians_of_their_parts() -> None:
    ones = [
        replace(GOOD, gap_ms=float(number), parts_ms={"fence": float(number)}, note="both" if number % 2 else "in")
        for number in range(1, 101)
    ]
    found = row("kagemusha", "process_killed", ones, STRICT)
    assert found["gap_ms"] == {"p50": 50.5, "p99": 100.0, "max": 100.0}
    assert found["gap_existing_ms"]["p50"] == 20.0
    assert found["gap_new_ms"]["p50"] == 12.0
    assert found["parts_ms"] == {"fence": 50.5}
    assert found["gap_ms_p50_by"] == {"both": 50.0, "in": 51.0}
    assert (found["runs"], found["taken_over"], found["overlaps"], found["kept"]) == (100, 100, 0, True)
    assert (found["target_ms"], found["in_target"]) == (50.0, False)
    assert row("kagemusha", "node_killed", ones, Promise(51.0))["in_target"] is True


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"overlaps": ("b answered again",)}, "b answered again"),
        ({"hung": 1}, "1 connections hung"),
        ({"lost": 7}, "7 acknowledged writes were lost"),
        ({"beyond": True}, "writes older than the reported staleness were lost"),
        ({"problems": ("write 3 found 7",)}, "write 3 found 7"),
    ],
)
def test_what_must_not_be_is_found(change: dict[str, Any], what: str) -> None:
    assert broken_promises([GOOD, replace(GOOD, **change)], STRICT) == [f"run 2: {what}"]


def test_writes_may_be_lost_where_that_is_said_beforehand() -> None:
    assert broken_promises([replace(GOOD, lost=7)], Promise(800.0)) == []


def test_nothing_is_said_of_promises_where_none_was_made() -> None:
    found = row("a peer", "process_killed", [replace(GOOD, overlaps=None, hung=3)], None)
    assert not {"kept", "target_ms", "overlaps"} & found.keys()
    assert found["hung"] == 3


def test_the_clients_account_becomes_a_run() -> None:
    one = judged(OUTCOME, overlaps=())
    assert (one.gap_ms, one.gaps_ms, one.lost, one.reset) == (31.0, {"busy": 31.0}, 2, 3)
    assert one.problems == ("write 3 found 7", "connection busy 4 has no reply since")
