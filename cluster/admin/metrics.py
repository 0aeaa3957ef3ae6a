"""Metrics as Prometheus reads them: this node, its instances, and its API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cluster.admin.models import Health, InstanceView

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LABELS: Final = ("program", "instance")
_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Metrics:
    """Counts what the API does; asked for, adds what is known of the node and its instances."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kagemusha_api_requests", "Requests that were answered.", ("operation", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "kagemusha_api_request_seconds",
            "How long requests took.",
            ("operation",),
            registry=self._registry,
            buckets=_BUCKETS,
        )

    def answered(self, operation: str, status: int, took_s: float) -> None:
        """One request was answered."""
        self._requests.labels(operation, str(status)).inc()
        self._seconds.labels(operation).observe(took_s)

    def text(self, health: Health, instances: Sequence[InstanceView]) -> bytes:
        """Everything, in the text format."""
        registry = CollectorRegistry()
        registry.register(_Snapshot([*_of_node(health), *_of_instances(instances)]))
        return generate_latest(self._registry) + generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_node(health: Health) -> Iterator[Metric]:
    values = (
        ("kagemusha_quorum", "1 while a majority of the nodes agrees on a leader.", float(health.quorum)),
        ("kagemusha_leader", "1 while this node leads.", float(health.leader == health.node)),
        ("kagemusha_term", "Raft term.", float(health.term)),
        ("kagemusha_nodes_missing", "Nodes that are not heard from.", float(len(health.missing))),
    )
    for name, text, value in values:
        family = GaugeMetricFamily(name, text, labels=("node",))
        family.add_metric((health.node,), value)
        yield family


def _of_instances(instances: Sequence[InstanceView]) -> Iterator[Metric]:
    gauges: dict[str, tuple[str, Callable[[InstanceView], float | None]]] = {
        "kagemusha_token": ("Fencing token.", lambda one: one.token),
        "kagemusha_checkpoint": ("Newest checkpoint.", _checkpoint),
        "kagemusha_lag_checkpoints": ("Checkpoints behind.", lambda one: one.lag_checkpoints),
        "kagemusha_lag_bytes": ("Bytes behind.", lambda one: one.lag_bytes),
        "kagemusha_lag_seconds": ("What a takeover would lose at most.", lambda one: _seconds(one.lag_ms)),
        "kagemusha_lease_age_seconds": ("Since the lease was renewed.", lambda one: _seconds(one.lease_age_ms)),
        "kagemusha_memory_bytes": ("Memory of the program or its shadow.", lambda one: one.memory_bytes),
        "kagemusha_connections": ("TCP connections of the program.", lambda one: one.connections),
    }
    for name, (text, value_of) in gauges.items():
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        for one in instances:
            value = value_of(one)
            if value is not None:
                family.add_metric((one.program, one.instance), float(value))
        yield family
    state = GaugeMetricFamily("kagemusha_instance", "1 for what it is.", labels=(*_LABELS, "role", "status"))
    pause = GaugeMetricFamily("kagemusha_pause_seconds", "Pauses of late.", labels=(*_LABELS, "quantile"))
    taken = CounterMetricFamily("kagemusha_checkpoints", "Checkpoints taken or applied.", labels=_LABELS)
    abandoned = CounterMetricFamily("kagemusha_checkpoints_abandoned", "Checkpoints given up.", labels=_LABELS)
    streamed = CounterMetricFamily("kagemusha_streamed_bytes", "Bytes to or from mirrors.", labels=_LABELS)
    refused = CounterMetricFamily("kagemusha_refused", "Updates refused.", labels=(*_LABELS, "reason"))
    for one in instances:
        labels = (one.program, one.instance)
        state.add_metric((*labels, one.role, one.status), 1)
        for quantile, us in (("0.5", one.pauses.p50_us), ("0.99", one.pauses.p99_us), ("1", one.pauses.max_us)):
            pause.add_metric((*labels, quantile), us / 1e6)
        taken.add_metric(labels, one.checkpoints)
        abandoned.add_metric(labels, one.abandoned)
        streamed.add_metric(labels, one.streamed_bytes)
        for reason, count in sorted(one.refused.items()):
            refused.add_metric((*labels, reason), count)
    yield from (state, pause, taken, abandoned, streamed, refused)


def _seconds(age_ms: float | None) -> float | None:
    return None if age_ms is None else age_ms / 1000


def _checkpoint(one: InstanceView) -> float | None:
    return None if one.checkpoint is None else one.checkpoint.number
