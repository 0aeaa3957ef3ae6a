"""Every checker is content with a good run, and finds the violation that is planted in it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.checkers.all import CHECKERS, violations
from tests.chaos.checkers.tokens import tokens_rise
from tests.chaos.checkers.validity import why_invalid
from tests.chaos.checkers.writes import nothing_is_lost
from tests.chaos.evidence import Evidence
from tests.chaos.planted import INVALID, PLANTED, Planted
from tests.chaos.sample import good_run

HERE = Path(__file__).parent


def test_a_good_run_is_good() -> None:
    assert violations(good_run()) == []
    assert list(why_invalid(good_run())) == []


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.what)
def test_a_planted_violation_is_found(planted: Planted) -> None:
    evidence = good_run()
    planted.plant(evidence)
    assert planted.invariant in {one.invariant for one in planted.checker(evidence)}


def test_every_checker_is_shown_to_fail() -> None:
    assert {planted.checker for planted in PLANTED} == set(CHECKERS)


@pytest.mark.parametrize("spoil", INVALID.values(), ids=INVALID.keys())
def test_a_run_that_says_nothing_is_invalid(spoil: Callable[[Evidence], None]) -> None:
    evidence = good_run()
    spoil(evidence)
    assert list(why_invalid(evidence))


def test_what_is_newer_than_the_reported_staleness_may_be_lost() -> None:
    evidence = good_run()
    assert list(nothing_is_lost(evidence)) == []
    evidence.reports = [replace(one, lag_ms=0.0) for one in evidence.reports]
    assert [one.what.split()[1] for one in nothing_is_lost(evidence)] == ["99", "100"]
    evidence.struck = [replace(one, loses="everything") for one in evidence.struck]
    assert list(nothing_is_lost(evidence)) == []


def test_a_history_that_goes_back_to_no_creation_begins_with_any_token() -> None:
    evidence = good_run()
    evidence.history = [one for one in evidence.history if one.kind != "program-started"]
    assert list(tokens_rise(evidence)) == []
    created = replace(evidence.history[0], kind="program-created", program=evidence.program)
    evidence.history.insert(0, created)
    assert [one.invariant for one in tokens_rise(evidence)] == ["I2"]


def test_evidence_that_was_saved_is_the_same(tmp_path: Path) -> None:
    evidence, again = good_run(), Evidence()
    evidence.save(tmp_path / "evidence.jsonl")
    again.add(tmp_path / "evidence.jsonl")
    assert again == evidence


@pytest.mark.parametrize(
    "path", [*sorted((HERE / "checkers").glob("*.py")), HERE / "evidence.py"], ids=lambda p: p.name
)
def test_checkers_know_nothing_of_the_product(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    of_ours = {
        name for name in names if name.partition(".")[0] in {"agent", "cluster", "kagemusha", "tests", "transport"}
    }
    assert all(name.startswith(("tests.chaos.checkers", "tests.chaos.evidence")) for name in of_ours), of_ours
