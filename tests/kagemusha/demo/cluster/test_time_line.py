"""The leader's time line on the clients' axis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kagemusha.demo.cluster.time_line import parts_ms, steps
from kagemusha.demo.report import Step

AT_S = 1_790_000_000
TIMES_US = {"detect": 2000, "fence": 0, "agree": 3000, "activate": 9000, "redirect": 1000, "prepare": 500, "go": 250}


def promotion(served_after_ms: float, times_us: dict[str, int]) -> dict[str, Any]:
    """What the API says of a takeover that was served so long after AT_S."""
    at = datetime.fromtimestamp(AT_S, UTC) + timedelta(milliseconds=served_after_ms)
    return {
        "served_at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "timeline": [{"name": name, "took_us": took_us} for name, took_us in times_us.items()],
    }


def test_parts_end_when_the_leader_heard_that_it_serves_and_steps_begin_with_the_activation() -> None:
    told = promotion(20.0, TIMES_US)
    assert parts_ms(told) == {"detect": 2.0, "fence": 0.0, "agree": 3.0, "activate": 9.0, "redirect": 1.0}
    assert steps(told, AT_S * 1_000_000_000) == [
        Step("leader: detect", 5.0, 2.0),
        Step("leader: fence", 7.0, 0.0),
        Step("leader: agree", 7.0, 3.0),
        Step("leader: activate, redirect", 10.0, 10.0),
        Step("  prepare", 10.0, 0.5),
        Step("  go", 10.5, 0.25),
    ]


def test_a_silence_that_began_before_the_event_is_shown_from_the_event_on() -> None:
    told = promotion(10.0, TIMES_US)
    assert steps(told, AT_S * 1_000_000_000)[:2] == [Step("leader: detect", 0.0, 0.0), Step("leader: fence", 0.0, 0.0)]
    told = promotion(14.0, TIMES_US)
    assert steps(told, AT_S * 1_000_000_000)[0] == Step("leader: detect", 0.0, 1.0)


def test_without_a_time_line_there_is_nothing_to_show() -> None:
    unknown: dict[str, Any] = {"served_at": None, "timeline": []}
    assert (parts_ms(unknown), steps(unknown, 0)) == ({}, [])
