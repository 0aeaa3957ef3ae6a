"""Many runs: which seeds, what is said of each and of all, and that it goes on, whatever comes of one."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.campaign import Figures, SeedsError, Summary, left_to_do, line_of, seeds_of
from tests.chaos.campaign_command import campaign, figures_of, run_campaign
from tests.chaos.checkers.verdict import Violation
from tests.chaos.plan import Plan
from tests.chaos.programs import Setup
from tests.chaos.run import Outcome
from tests.chaos.sample import LOST, good_run

WANTED: Figures = {"seconds": 60.0, "program": "redis", "driver": "address"}


def run(seed: int) -> dict[str, Any]:
    """What a run of this seed says of itself: each third is violated, and each fifth invalid."""
    outcome = Outcome(Plan(seed, ()), asdict(Setup()), evidence=good_run(), took_s={"begin": 5.0, "plan": 60.0})
    if seed % 3 == 0:
        outcome.violations = [Violation("I1", "two serve")]
        outcome.kept_in = "/run/somewhere"
    elif seed % 5 == 0:
        outcome.invalid = ["nobody looked"]
    return dict(json.loads(json.dumps(outcome.figures())))


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", [7]), ("1-4", [1, 2, 3, 4]), ("3-4,9, 1-3", [3, 4, 9, 1, 2]), ("5-5", [5])]
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "4-1", "1-", "-3", "1,,2", "0-999999999"])
def test_what_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(SeedsError, match="seed"):
        seeds_of(text)


def test_it_goes_on_whatever_comes_of_a_run() -> None:
    told: list[str] = []
    broken = {"verdict": "broken", "broken": "no room"}
    summary = campaign(range(1, 8), WANTED, None, lambda seed: broken if seed == 7 else run(seed), told.append)
    assert [summary.seeds(verdict) for verdict in ("kept", "violated", "invalid", "broken")] == [
        [1, 2, 4],
        [3, 6],
        [5],
        [7],
    ]
    assert len(told) == 7
    assert told[0].startswith("seed 1: kept; 1 faults (node-killed); ")
    assert "I1: two serve; see /run/somewhere" in told[2]
    assert "invalid: nobody looked" in told[4]
    assert "no room" in told[6]
    assert summary.exit_code == 1


def test_what_says_nothing_is_counted_apart() -> None:
    summary = campaign(range(1, 6), WANTED, None, run, lambda line: None)
    document = json.loads(json.dumps(summary.document()))
    assert (document["kept"], document["violated"], document["invalid"]) == (3, 1, 1)
    assert document["kinds"] == {
        "node-killed": {"times": 4, "without_effect": 0, "silent_s_max": 0.01, "whole_again_s_max": 1.0}
    }
    assert document["writes_lost"] == 4 * LOST
    assert document["violations"] == [{"seed": 3, "invariant": "I1", "what": "two serve"}]
    lines = summary.lines()
    assert lines[1].split() == ["node-killed", "4", "0", "0.0", "s", "1.0", "s"]
    assert "5 runs: 3 kept, 1 violated, 1 invalid, 0 broken; 4 faults of 1 kinds" in lines
    assert lines[-2:] == ["violated: seeds 3", "invalid: seeds 5"]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["kept"], 0),
        (["kept", "invalid"], 3),
        (["invalid", "broken"], 4),
        (["broken", "violated", "kept"], 1),
        ([], 0),
    ],
)
def test_the_worst_verdict_counts(verdicts: list[str], code: int) -> None:
    runs = [{"verdict": verdict, "seed": 1, "struck": []} for verdict in verdicts]
    assert Summary(runs).exit_code == code


def test_what_was_done_is_not_repeated(tmp_path: Path) -> None:
    file, done, told = tmp_path / "results.jsonl", list[int](), list[str]()

    def noted(seed: int) -> dict[str, Any]:
        done.append(seed)
        return run(seed)

    campaign([1, 2], WANTED, file, noted, told.append)
    summary = campaign([1, 2, 3], WANTED, file, noted, told.append)
    assert done == [1, 2, 3]
    assert sum("was done before" in line for line in told) == 2
    assert [one["seed"] for one in summary.runs] == [1, 2, 3]
    assert left_to_do([1, 2, 3], {**WANTED, "program": "c"}, summary.runs) == [1, 2, 3], (
        "another program is another run"
    )


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text('{"seed": 1}\n')
    with pytest.raises(SeedsError, match="line 1: no run of a campaign"):
        campaign([1], WANTED, file, run, lambda line: None)
    assert file.read_text() == '{"seed": 1}\n'


def test_the_last_line_of_a_run_is_taken_and_none_is_a_broken_run() -> None:
    assert figures_of('something\n{"verdict": "kept"}\n', 0) == {"verdict": "kept"}
    for said in ("", "oh\n", "[]\n"):
        assert figures_of(said, -9) == {"verdict": "broken", "broken": "it ended with status -9 and said nothing"}


def test_what_is_for_one_run_does_not_go_with_many() -> None:
    options = argparse.Namespace(
        seeds="1-2", seed=None, plan=Path("plan.json"), inventory=None, shrink=False, soak=False
    )
    with pytest.raises(SeedsError, match="--plan"):
        run_campaign(options, lambda line: None)


def test_a_run_is_one_line() -> None:
    assert "\n" not in line_of({**run(3), "seed": 3, "load_average": 2.0})
