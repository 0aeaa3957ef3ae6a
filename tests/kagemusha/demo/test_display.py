"""What a person sees: bars that are true, and lines that fit."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagemusha.demo.display import WIDTH, Display, bar
from kagemusha.demo.report import Report, Step
from tests.kagemusha.demo.test_report import GOOD

PARTS = st.floats(0, 1)


@settings(deadline=None)
@given(at=PARTS, took=PARTS, columns=st.integers(1, 100))
def test_a_bar_fills_its_columns_and_is_never_invisible(at: float, took: float, columns: int) -> None:
    drawn = bar(at, took, columns)
    assert len(drawn) == columns
    assert drawn.strip()


def test_a_bar_is_as_long_as_what_it_stands_for() -> None:
    assert bar(0, 1, 4) == "████"
    assert bar(0.5, 0.25, 4) == "  █ "
    assert bar(0.5, 0.125, 4) == "  ▌ "


def test_everything_fits_and_nothing_is_coloured_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    file = io.StringIO()
    display = Display(file)
    display.title()
    with display.task("redis-server under the agent of node a") as task:
        task.now("filling")
        task.result = "139 MiB"
    steps = [Step("death noticed", 0, 0.4), Step("client: slowest reply", 0, 9.1)]
    takeover = replace(GOOD, steps=steps, writes_acknowledged=12_345_678)
    display.takeover(takeover)
    report = Report(
        "redis-server", 50, takeovers=[takeover, replace(takeover, connections_hung=1, hung_names=["anew 3"])]
    )
    display.summary(report)
    display.failure("it went wrong")
    said = file.getvalue()
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) <= WIDTH
    for words in ("139 MiB", "death noticed", "lost 0 of 12,345,678", "connections hung: anew 3", "it went wrong"):
        assert words in said


def test_what_the_leader_says_is_shown_beside_the_gap() -> None:
    file = io.StringIO()
    parts = {"detect": 1.0, "fence": 400.0, "agree": 12.0, "activate": 30.0, "redirect": 2.0}
    takeover = replace(GOOD, kind="node_killed", raft_leader=True, gap_ms=701.5, parts_ms=parts)
    display = Display(file)
    display.takeover(takeover)
    display.summary(Report("redis-server", 50, mirrors=2, takeovers=[takeover]))
    said = file.getvalue()
    assert max(map(len, said.splitlines())) <= WIDTH
    assert "node a dies, which is primary and leads the Raft group" in said
    (line,) = [line for line in said.splitlines() if "445.0" in line]
    assert line.split() == ["leader's", "node", "killed", "1.0", "400.0", "12.0", "30.0", "2.0", "445.0", "701.5"]


def test_a_run_that_kept_everything_says_so() -> None:
    file = io.StringIO()
    Display(file).summary(Report("redis-server", 50, takeovers=[GOOD]))
    assert "everything that was promised was kept" in file.getvalue()
