"""The files of deploy/monitoring, read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DIRECTORY = ROOT / "deploy" / "monitoring"
ALERTS = DIRECTORY / "alerts.yml"
TESTS = DIRECTORY / "alerts_test.yml"
DASHBOARD = DIRECTORY / "dashboard.json"
OPERATIONS = ROOT / "docs" / "operations.md"


def alerts() -> list[dict[str, Any]]:
    """All rules."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Its panels, without the rows' heads."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """(title of the panel, query) of all."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def metrics_in(query: str) -> set[str]:
    """The names of metrics in a query. Names of alerts begin with a capital letter."""
    return set(re.findall(r"\bkagemusha_[a-z_]+\b", query))


def labels_in(query: str) -> set[str]:
    """The labels that a query chooses by, groups by or joins on."""
    chosen = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=(?!=))\s*\"", query))
    lists = re.findall(r"\b(?:by|on|without)\s*\(([a-z_, ]*)\)", query)
    return chosen | {name.strip() for names in lists for name in names.split(",") if name.strip()}
