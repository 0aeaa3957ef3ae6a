"""Alert rules and dashboard speak of metrics that there are, and lead to runbooks that there are."""

from __future__ import annotations

import itertools
import re

import pytest
import yaml

from cluster.metrics.table import MEASURES
from tests.monitoring.files import OPERATIONS, TESTS, alerts, dashboard, labels_in, metrics_in, panels, queries

STORED = {name: measure for measure in MEASURES.values() for name in measure.stored}
OF_PROMETHEUS = {"job", "cluster", "le", "node"}
"""Labels that every target, or histogram, has."""
SEVERITIES = {"critical", "warning", "info"}


def anchors() -> set[str]:
    """Of the sections of docs/operations.md, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_and_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    page, _, anchor = notes["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    assert anchor in anchors()
    assert "\n" not in notes["summary"].strip()


def test_names_of_alerts_are_told_apart() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("Kagemusha") for name in names)


def test_every_alert_is_seen_to_fire() -> None:
    found: set[str] = set()
    for test in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]:
        for look in test.get("promql_expr_test", ()):
            if look["exp_samples"]:
                found |= set(re.findall(r'alertname="(\w+)"', look["expr"]))
    assert found == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize(
    ("where", "query"),
    [*((rule["alert"], rule["expr"]) for rule in alerts()), *queries()],
    ids=lambda value: value if len(value) < 40 else "",
)
def test_a_query_is_about_what_there_is(where: str, query: str) -> None:
    named = metrics_in(query)
    assert named or "up{" in query, where
    assert named <= STORED.keys()
    known = OF_PROMETHEUS.union(*(STORED[name].labels for name in named))
    assert labels_in(query) <= known, where


def test_what_is_in_no_query_is_meant_so() -> None:
    """Every metric is on the dashboard or in an alert, but for those that are only for who looks closer."""
    used = set().union(*(metrics_in(query) for _, query in queries()), *(metrics_in(rule["expr"]) for rule in alerts()))
    unused = {measure.name for measure in MEASURES.values() if not used & set(measure.stored)}
    assert unused == {
        "kagemusha_build_info",
        "kagemusha_start_time_seconds",
        "kagemusha_leader_known",
        "kagemusha_nodes",
        "kagemusha_registry_commands",
        "kagemusha_tasks",
        "kagemusha_instance_token",
        "kagemusha_program_token",
        "kagemusha_checkpoint",
        "kagemusha_lag_checkpoints",
        "kagemusha_lag_bytes",
    }


def test_panels_are_apart() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_panels_have_a_unit_and_the_chosen_source() -> None:
    assert len(panels()) > 30
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]


def test_queries_are_read_rightly() -> None:
    query = 'sum by (le, program) (rate(kagemusha_x_bucket{node="a",program=~"$program"}[1m])) == 1 and on (cluster) b'
    assert metrics_in(query) == {"kagemusha_x_bucket"}
    assert labels_in(query) == {"le", "program", "node", "cluster"}
