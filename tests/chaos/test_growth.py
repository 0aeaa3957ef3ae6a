"""What counts as growth: of one process, over minutes, and not what it takes at its beginning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.checkers.growth import LONG_S, WARM_S, lives, nothing_grows
from tests.chaos.evidence import NS_PER_S, Evidence, Sample
from tests.chaos.leak_report import report, report_lines

HOUR_S = 3600
CALM = Sample(0, "a", "daemon", 7, descriptors=30, owed=0, resident_kib=60_000, threads=5, tasks=20)


def of(change: Callable[[float], dict[str, int]], seconds: int = HOUR_S, like: Sample = CALM) -> Evidence:
    """A process that is looked at every ten seconds. change: what is otherwise after so much of the time."""
    samples = [
        replace(like, at_ns=at_s * NS_PER_S, **change(at_s / seconds))  # type: ignore[arg-type]
        for at_s in range(0, seconds + 1, 10)
    ]
    return Evidence(samples=samples)


@pytest.mark.parametrize(
    "name_and_by", [("descriptors", 40), ("resident_kib", 100_000), ("threads", 20), ("tasks", 60)], ids=lambda v: v[0]
)
def test_what_grows_is_found(name_and_by: tuple[str, int]) -> None:
    name, by = name_and_by
    before = getattr(CALM, name)
    assert [one.invariant for one in nothing_grows(of(lambda part: {name: before + round(by * part)}))] == ["I13"]
    assert not list(nothing_grows(of(lambda part: {name: before + round(by * part)}, LONG_S))), "not looked at for long"


def test_what_is_the_same_in_the_end_has_not_grown() -> None:
    assert not list(nothing_grows(of(lambda part: {})))
    assert not list(nothing_grows(of(lambda part: {"descriptors": 30 if part != 0.5 else 3000})))
    assert not list(nothing_grows(of(lambda part: {"resident_kib": 1000 if part * HOUR_S < WARM_S else 90_000})))


def test_what_nobody_could_ask_for_is_not_judged() -> None:
    evidence = of(lambda part: {}, like=replace(CALM, tasks=None))
    [life] = lives(evidence)
    assert [course.quantity.name for course in life.courses] == ["descriptors", "MiB of memory", "threads"]


def test_what_is_another_doing_or_the_programs_own_is_no_leak() -> None:
    grows = of(lambda part: {"descriptors": 30 + round(100 * part), "owed": round(100 * part)})
    assert not list(nothing_grows(grows))
    assert not list(nothing_grows(of(lambda part: {"threads": round(900 * part)}, like=replace(CALM, role="program"))))


def test_a_process_that_was_started_anew_begins_anew() -> None:
    first = of(lambda part: {"descriptors": 30}).samples
    second = [replace(one, pid=8, at_ns=one.at_ns + HOUR_S * NS_PER_S, descriptors=90) for one in first]
    evidence = Evidence(samples=[*first, *second])
    assert not list(nothing_grows(evidence))
    assert [(life.pid, life.since_s) for life in lives(evidence)] == [(7, 0), (8, HOUR_S)]


def test_the_report_says_what_was_first_and_last_and_an_hour() -> None:
    evidence = of(lambda part: {"tasks": 20 + round(20 * part)})
    [one] = report(lives(evidence))
    assert (one["node"], one["role"], one["minutes"]) == ("a", "daemon", 58.0)
    assert one["descriptors"] == {"first": 30, "last": 30, "most": 30, "an_hour": 0}
    assert 19 < one["tasks"]["an_hour"] < 21
    lines = list(report_lines(lives(evidence)))
    assert len(lines) == 5
    assert lines[1].split() == ["a", "daemon", "58", "descriptors", "30.0", "30.0", "30.0", "0.0"]
    assert list(report_lines([])) == []
