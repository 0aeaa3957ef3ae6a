"""What is said of a run: a violation counts most, and a run that was not carried through is no finding."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from tests.chaos.checkers.verdict import Violation
from tests.chaos.plan import Plan
from tests.chaos.programs import Setup
from tests.chaos.run import Outcome, Verdict
from tests.chaos.sample import LOST, good_run


@pytest.mark.parametrize(
    ("violated", "broken", "invalid", "verdict"),
    [
        (False, "", [], "kept"),
        (False, "", ["no load"], "invalid"),
        (False, "no nodes", ["no load"], "broken"),
        (True, "no nodes", ["no load"], "violated"),
    ],
)
def test_verdicts(violated: bool, broken: str, invalid: list[str], verdict: Verdict) -> None:
    violations = [Violation("I1", "two serve")] if violated else []
    outcome = Outcome(Plan(1, ()), asdict(Setup()), violations=violations, broken=broken, invalid=invalid)
    assert outcome.verdict == verdict


def test_the_figures_of_a_run_are_one_json_object() -> None:
    outcome = Outcome(Plan(1, ()), asdict(Setup("c")), evidence=good_run())
    figures = json.loads(json.dumps(outcome.figures()))
    assert figures["verdict"] == "kept"
    assert figures["program"] == "c"
    assert figures["writes_lost"] == LOST
    assert figures["faults"] == {"node-killed": 1}
    assert figures["whole_again_s"] == [1.0]
