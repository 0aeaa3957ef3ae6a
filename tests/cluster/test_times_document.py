"""docs/failure-model.md names every time by which the cluster decides, with the default that it has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from agent.instance import END_S_MAX
from agent.network.connections import _END_MS
from agent.network.reminder import EVERY_S
from agent.network.service_network import STRAGGLERS_S
from agent.primary.audience import ACK_S_MAX
from agent.program import Failover, HealthCheck, Mirror
from agent.redirect import Redirect
from cluster.admin.app import ELECTION_S_MAX
from cluster.admin.service import REQUEST_S
from cluster.config import Agents, Times
from cluster.fencing.watchdog import FREEZE_S, LOOK_S
from cluster.health import verdict
from cluster.leader.detector import DetectorTimes
from cluster.leader.office import Patience
from cluster.leader.watch import STARTS_REMEMBERED_S
from cluster.node import condition
from cluster.node.peers import HANDSHAKE_S
from cluster.node.runner import COMMIT_S, HEARD_S, RESTART_S
from cluster.redirect import guide
from cluster.redirect.probe import WAIT_S
from transport.settings import Section

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "failure-model.md"
ROWS = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
NOT_MS = {"suspicion"}
NAMELESS = {
    "extension": RESTART_S,
    "watchdog": LOOK_S,
    "freezing": FREEZE_S,
    "clean starts": STARTS_REMEMBERED_S,
    "acknowledgement": ACK_S_MAX,
    "end": END_S_MAX,
    "late": condition.LATE_S,
    "slept": verdict.LATE_S,
    "link": HANDSHAKE_S,
    "agreement": COMMIT_S,
    "reminder": EVERY_S,
    "look": guide.LOOK_S,
    "probe": WAIT_S,
    "stragglers": STRAGGLERS_S,
    "doubt": _END_MS / 1000,
    "request": REQUEST_S,
    "heard": HEARD_S,
    "election": ELECTION_S_MAX,
}
"""Times that are constants of their rooms, by what the document calls them."""


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


SECTIONS: dict[str, type[Section]] = {
    "mirror": Mirror,
    "health": HealthCheck,
    "failover": Failover,
    "redirect": Redirect,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_what_stands_in_a_programs_file(section: str) -> None:
    """Every time of program.toml, with its default."""
    kind = SECTIONS[section]
    for name, field in kind.model_fields.items():
        if not name.endswith(("_ms", "_s")):
            continue
        [row] = [row for row in ROWS if f"`{section}." in row and re.search(rf"[`.]{name}`", row)]
        assert str(field.default) in row.split("|")[2].replace(" ", "").split(","), (name, row)


def test_before_an_agent_is_started_again() -> None:
    assert f"`restart_ms` {Agents.model_fields['restart_ms'].default}," in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("times", [Patience(), DetectorTimes()], ids=lambda times: type(times).__name__)
def test_what_is_fixed(times: Patience | DetectorTimes) -> None:
    for field in fields(times):
        if field.name in NOT_MS or field.name == "heartbeat_s":
            continue
        value = in_words(getattr(times, field.name))
        assert value in re.findall(r"\d+|never", said(field.name)), (field.name, value)


def test_what_has_no_name() -> None:
    for what, seconds in NAMELESS.items():
        row = next(row for row in ROWS if row.startswith(f"| {what} |"))
        assert row.split("|")[2].strip() == in_words(seconds), what
