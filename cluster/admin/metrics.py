"""Metrics as Prometheus reads them: what this node knows, and what its API did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cluster.metrics.table import MEASURES, Sample, checked
from cluster.metrics.tally import Tally

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts what the API does; asked for, adds what is known of the node, its programs and instances."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._api = Tally()

    def answered(self, operation: str, status: int, took_s: float) -> None:
        """One request was answered."""
        self._api.count("kagemusha_api_requests_total", operation, str(status))
        self._api.observe("kagemusha_api_request_seconds", took_s, operation)

    def text(self, samples: Iterable[Sample], tally: Tally) -> bytes:
        """Everything, in the text format; in the order of the table."""
        families: dict[str, Metric] = {}
        for measure, sample in checked([*samples, *tally.samples(), *self._api.samples()]):
            if measure.name not in families:
                kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
                families[measure.name] = kind(measure.name, measure.meaning, labels=measure.all_labels)
            family = families[measure.name]
            if isinstance(family, CounterMetricFamily | GaugeMetricFamily):
                family.add_metric((self._node, *sample.labels), sample.value)
        for (name, labels), spread in (*tally.spreads.items(), *self._api.spreads.items()):
            measure = MEASURES[name]
            histogram = families.setdefault(
                name, HistogramMetricFamily(name, measure.meaning, labels=measure.all_labels)
            )
            if isinstance(histogram, HistogramMetricFamily):
                histogram.add_metric((self._node, *labels), spread.cumulated(), spread.total)
        registry = CollectorRegistry()
        registry.register(_Snapshot([families[name] for name in MEASURES if name in families]))
        return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
