"""docs/failure-model.md names every time by which the cluster decides, with the default that it has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cluster.config import Times
from cluster.fencing.watchdog import FREEZE_S, LOOK_S
from cluster.leader.detector import DetectorTimes
from cluster.leader.office import Patience
from cluster.node.runner import RESTART_S

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "failure-model.md"
ROWS = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
NOT_MS = {"suspicion"}


def said(name: str) -> str:
    """The row of this parameter, or the number that stands after its name in a row."""
    rows = [row for row in ROWS if f"`{name}`" in row]
    assert rows, f"{name} is not in {DOCUMENT.name}"
    return rows[0]


def in_words(seconds: float) -> str:
    """As the document says it: whole milliseconds."""
    return "never" if seconds == float("inf") else str(round(seconds * 1000))


@pytest.mark.parametrize("name", list(Times.model_fields))
def test_what_an_operator_may_set(name: str) -> None:
    default = Times.model_fields[name].default
    cell = said(name).split("|")[2].strip()
    assert cell == (f"{default[0]} to {default[1]}" if isinstance(default, tuple) else str(default))


@pytest.mark.parametrize("times", [Patience(), DetectorTimes()], ids=lambda times: type(times).__name__)
def test_what_is_fixed(times: Patience | DetectorTimes) -> None:
    for field in fields(times):
        if field.name in NOT_MS or field.name == "heartbeat_s":
            continue
        value = in_words(getattr(times, field.name))
        assert value in re.findall(r"\d+|never", said(field.name)), (field.name, value)


def test_what_has_no_name() -> None:
    for what, seconds in (("extension", RESTART_S), ("watchdog", LOOK_S), ("freezing", FREEZE_S)):
        row = next(row for row in ROWS if row.startswith(f"| {what} |"))
        assert row.split("|")[2].strip() == in_words(seconds)
