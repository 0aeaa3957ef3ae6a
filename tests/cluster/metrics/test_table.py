"""The table of metrics keeps the rules of its names, and nothing is told that is not in it."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.admin.metrics import Metrics
from cluster.metrics.table import MEASURES, SECTIONS, Sample, checked
from cluster.metrics.tally import Tally


def test_names_follow_the_rules() -> None:
    names = [measure.name for section in SECTIONS for measure in section.measures]
    assert len(set(names)) == len(names)
    for measure in MEASURES.values():
        assert re.fullmatch(r"kagemusha_[a-z_]+", measure.name)
        assert (measure.kind == "counter") == measure.name.endswith("_total"), measure.name
        assert not {"instance", "job", "node"} & set(measure.labels), measure.name
        for unit in ("seconds", "bytes"):
            if unit in measure.unit:
                assert unit in measure.name, measure.name
        assert bool(measure.buckets) == (measure.kind == "histogram"), measure.name
        assert list(measure.buckets) == sorted(measure.buckets)


@pytest.mark.parametrize(
    "sample",
    [
        Sample("kagemusha_mood", 1.0),
        Sample("kagemusha_lag_bytes", 1.0),
        Sample("kagemusha_takeover_seconds", 1.0, ("x",)),
    ],
    ids=["unknown", "without its label", "a histogram"],
)
def test_what_is_not_in_the_table_is_not_told(sample: Sample) -> None:
    with pytest.raises(ValueError, match="is not in the table"):
        list(checked([sample]))


def test_counters_and_histograms_are_told_with_the_node() -> None:
    tally = Tally()
    tally.count("kagemusha_takeovers_total", "redis", "node", by=0)
    tally.count("kagemusha_takeovers_total", "redis", "node")
    tally.count("kagemusha_takeovers_total", "redis", "node")
    for took_s in (0.03, 0.05, 0.4, 99.0):
        tally.observe("kagemusha_takeover_seconds", took_s, "redis")
    metrics = Metrics("a")
    metrics.answered("list_nodes", 200, 0.002)
    text = metrics.text([Sample("kagemusha_quorum", 1.0)], tally).decode()
    found = {
        (one.name, one.labels.get("le", "")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.labels["node"] == "a"
    }
    assert found["kagemusha_quorum", ""] == 1
    assert found["kagemusha_takeovers_total", ""] == 2
    assert found["kagemusha_takeover_seconds_bucket", "0.05"] == 2
    assert found["kagemusha_takeover_seconds_bucket", "0.55"] == 3
    assert found["kagemusha_takeover_seconds_bucket", "+Inf"] == found["kagemusha_takeover_seconds_count", ""] == 4
    assert found["kagemusha_takeover_seconds_sum", ""] == pytest.approx(99.48)
    assert found["kagemusha_api_requests_total", ""] == 1


def test_a_program_that_is_deleted_leaves_nothing() -> None:
    tally = Tally()
    for program in ("redis", "web"):
        tally.count("kagemusha_clean_starts_total", program)
        tally.observe("kagemusha_takeover_seconds", 0.1, program)
    tally.count("kagemusha_leader_changes_total")
    tally.forget("redis")
    assert {one.labels for one in tally.samples()} == {("web",), ()}
    assert [labels for _, labels in tally.spreads] == [("web",)]


def test_only_counters_are_counted() -> None:
    with pytest.raises(ValueError, match="is no counter"):
        Tally().count("kagemusha_quorum")
