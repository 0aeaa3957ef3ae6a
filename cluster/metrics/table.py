"""All metrics of a node: one table, from which the text for Prometheus and docs/metrics.md are made. Pure.

What is not in the table can't be told. Names follow the rules of the Prometheus project: base units (seconds, bytes),
the unit in the name, `_total` for counters. There is no label `instance`: Prometheus gives that name to what it
scraped. An instance of a program is its program and its node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["gauge", "counter", "histogram"]
NODE: Final = "node"
"""Every metric has this label; it is not repeated in the table."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. name: as it is stored, so of a counter with `_total`. labels: besides `node`. buckets: upper bounds
    of a histogram, ascending."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def stored(self) -> tuple[str, ...]:
        """The names under which Prometheus stores it."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)

    @property
    def all_labels(self) -> tuple[str, ...]:
        """In the order of `Sample.labels`."""
        return (NODE, *self.labels)


@dataclass(frozen=True, slots=True)
class Section:
    """Metrics of one thing, in the document under one head. note: what is to be known of all of them."""

    head: str
    note: str
    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric that is no histogram. labels: besides `node`, in the order of the table."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


def _flag(name: str, meaning: str, *labels: str) -> Measure:
    return Measure(name, "gauge", "1 or 0", meaning, labels)


_PROGRAM: Final = ("program",)
TAKEOVER_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.55, 1.0, 2.0, 5.0, 10.0, 30.0)
REQUEST_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

_OF_NODE: Final = Section(
    "A node",
    "Of the node that is asked, by its own clock and from where it stands.",
    (
        Measure("kagemusha_build_info", "gauge", "always 1", "What runs here.", ("version", "python", "kernel")),
        Measure("kagemusha_start_time_seconds", "gauge", "seconds since 1970", "When this daemon was started."),
        _flag("kagemusha_quorum", "1 while a majority of the nodes hears each other, and so can agree."),
        _flag("kagemusha_leader", "1 while this node leads."),
        _flag("kagemusha_leader_known", "1 while this node knows who leads, and hears that one."),
        Measure("kagemusha_term", "gauge", "number", "Raft term; rises with every election."),
        Measure("kagemusha_nodes", "gauge", "nodes", "Nodes of the cluster, as node.toml has them."),
        Measure("kagemusha_nodes_missing", "gauge", "nodes", "Nodes that are not heard from."),
        Measure(
            "kagemusha_peer_heartbeat_age_seconds",
            "gauge",
            "seconds",
            "Since another node was last heard from. None for one that never was.",
            ("peer",),
        ),
        Measure("kagemusha_node_latency_seconds", "gauge", "seconds", "Median of the round trips to the other nodes."),
        _flag(
            "kagemusha_node_trouble",
            "1 while something speaks against this node: no watchdog, little memory, a late heartbeat of late.",
        ),
        _flag("kagemusha_node_drained", "1 while no program comes to this node."),
        _flag("kagemusha_watchdog", "1 while there is a watchdog; without one no program gets a lease here."),
        _flag(
            "kagemusha_clock_synchronised",
            "1 while the kernel's clock is kept right by a time service. None where the kernel does not say.",
        ),
        Measure("kagemusha_clock_error_seconds", "gauge", "seconds", "How wrong the clock may be, as the kernel says."),
        Measure(
            "kagemusha_lease_seconds", "gauge", "seconds", "How long a primary may serve by one lease (node.toml)."
        ),
        Measure("kagemusha_registry_commands", "gauge", "commands", "Commands that were applied to the registry here."),
        Measure("kagemusha_tasks", "gauge", "tasks", "Tasks of this daemon's event loop that have not ended."),
        Measure("kagemusha_leader_changes_total", "counter", "times", "New leaders, since this daemon was started."),
        _flag("kagemusha_keepalived", "1 while keepalived runs. None where no program wants it."),
        Measure(
            "kagemusha_keepalived_restarts_total",
            "counter",
            "times",
            "Another keepalived than before was found, since this daemon was started.",
        ),
    ),
)

_OF_PROGRAM: Final = Section(
    "A program",
    "As the registry of this node has it, so from every node that is asked; on a node without a quorum that is how it "
    "was. Where a number is wanted take the `max by (program)`.",
    (
        Measure("kagemusha_program_token", "gauge", "number", "Fencing token; rises with every new primary.", _PROGRAM),
        _flag("kagemusha_program_serving", "1 while its primary serves.", *_PROGRAM),
        _flag("kagemusha_program_stopped", "1 while it is stopped on purpose, or ended with status 0.", *_PROGRAM),
        _flag("kagemusha_program_fenced", "1 while its primary is fenced.", *_PROGRAM),
        Measure("kagemusha_program_instances", "gauge", "instances", "Its instances, the primary too.", _PROGRAM),
        Measure("kagemusha_program_mirrors", "gauge", "mirrors", "Mirrors that could take over now.", _PROGRAM),
        _flag("kagemusha_program_paused", "1 while a person has paused its failover.", *_PROGRAM),
        Measure(
            "kagemusha_program_paused_seconds",
            "gauge",
            "seconds",
            "Since it was paused; 0: it is not. None where this node does not remember when.",
            _PROGRAM,
        ),
        Measure(
            "kagemusha_takeovers_total",
            "counter",
            "times",
            "New primaries on this node that went on from a checkpoint, by cause: `planned`, `forced`, `program` (it "
            "ended), `health`, `node`, `agent`, `start` (it did not come up), `fenced` (another leader had begun it). "
            "Sum it over the nodes.",
            ("program", "cause"),
        ),
        Measure(
            "kagemusha_clean_starts_total",
            "counter",
            "times",
            "Primaries that failed and were started on this node without their context.",
            _PROGRAM,
        ),
        Measure(
            "kagemusha_takeover_seconds",
            "histogram",
            "seconds",
            "From the failure, or the order, until the new primary serves. Of the node that led.",
            _PROGRAM,
            TAKEOVER_S,
        ),
    ),
)

_OF_INSTANCE: Final = Section(
    "An instance",
    "Of the programs that have an instance on this node.",
    (
        Measure("kagemusha_instance", "gauge", "always 1", "What it is now.", ("program", "role", "status")),
        _flag("kagemusha_agent", "1 while its agent answers.", *_PROGRAM),
        Measure(
            "kagemusha_agent_losses_total",
            "counter",
            "times",
            "Agents that were gone unasked, and are started again.",
            _PROGRAM,
        ),
        Measure("kagemusha_instance_token", "gauge", "number", "Token of the primary that it is or follows.", _PROGRAM),
        Measure("kagemusha_checkpoint", "gauge", "number", "Newest checkpoint taken (primary) or held.", _PROGRAM),
        Measure(
            "kagemusha_lag_checkpoints",
            "gauge",
            "checkpoints",
            "Behind: of a primary its least stale mirror, of a mirror itself.",
            _PROGRAM,
        ),
        Measure("kagemusha_lag_bytes", "gauge", "bytes", "The same, in what would have to be sent.", _PROGRAM),
        Measure(
            "kagemusha_lag_seconds",
            "gauge",
            "seconds",
            "Staleness: what a takeover now would lose at most. None while nothing is mirrored.",
            _PROGRAM,
        ),
        Measure(
            "kagemusha_mirror_lag_checkpoints",
            "gauge",
            "checkpoints",
            "A primary's view of each of its mirrors.",
            ("program", "mirror"),
        ),
        Measure("kagemusha_mirror_lag_bytes", "gauge", "bytes", "The same, in bytes.", ("program", "mirror")),
        Measure(
            "kagemusha_mirror_lag_seconds",
            "gauge",
            "seconds",
            "The same: age of the newest checkpoint that it holds. None while it holds none.",
            ("program", "mirror"),
        ),
        Measure(
            "kagemusha_lease_age_seconds",
            "gauge",
            "seconds",
            "Since the newest lease of a primary was asked for. None for a mirror, and before the first.",
            _PROGRAM,
        ),
        Measure(
            "kagemusha_watchdog_fences_total",
            "counter",
            "times",
            "The watchdog stopped the program, by cause: its `lease` ended, or an `order`.",
            ("program", "cause"),
        ),
        _flag("kagemusha_address_held", "1 while the program's address is on this node's interfaces.", *_PROGRAM),
        _flag("kagemusha_redirect_trouble", "1 while clients are not led to its primary as they should be.", *_PROGRAM),
        Measure(
            "kagemusha_health_checks_total",
            "counter",
            "checks",
            "Health checks that were answered, by check and result, `good` or `failed`.",
            ("program", "check", "result"),
        ),
        _flag(
            "kagemusha_healthy", "0 while the program fails its health checks; a primary with checks has it.", *_PROGRAM
        ),
        Measure("kagemusha_memory_bytes", "gauge", "bytes", "Memory of the program or its shadow.", _PROGRAM),
        Measure("kagemusha_connections", "gauge", "connections", "TCP connections of the program.", _PROGRAM),
        Measure("kagemusha_children", "gauge", "processes", "Its processes that are not mirrored.", _PROGRAM),
        Measure("kagemusha_sync_done_bytes", "gauge", "bytes", "Of a first transfer under way.", _PROGRAM),
        Measure("kagemusha_sync_total_bytes", "gauge", "bytes", "Of a first transfer: what is expected.", _PROGRAM),
        Measure(
            "kagemusha_pause_seconds",
            "gauge",
            "seconds",
            "How long checkpoints stopped the program, over the newest thousands of them: `share` 0.5 of them or 0.99 "
            "were not longer; 1: the longest of all.",
            ("program", "share"),
        ),
        Measure("kagemusha_checkpoints_total", "counter", "checkpoints", "Taken (primary) or applied.", _PROGRAM),
        Measure(
            "kagemusha_checkpoints_abandoned_total",
            "counter",
            "checkpoints",
            "Given up, because they would have stopped the program for too long.",
            _PROGRAM,
        ),
        Measure(
            "kagemusha_streamed_bytes_total",
            "counter",
            "bytes",
            "Of checkpoints, encoded: what a primary sends to each mirror that follows, and a mirror receives.",
            _PROGRAM,
        ),
        Measure(
            "kagemusha_refused_total",
            "counter",
            "updates",
            "Updates and frames that were refused.",
            ("program", "reason"),
        ),
    ),
)

_OF_API: Final = Section(
    "The API",
    "Since this daemon was started.",
    (
        Measure(
            "kagemusha_api_requests_total",
            "counter",
            "requests",
            "Requests that were answered.",
            ("operation", "status"),
        ),
        Measure(
            "kagemusha_api_request_seconds",
            "histogram",
            "seconds",
            "How long requests took.",
            ("operation",),
            REQUEST_S,
        ),
    ),
)

SECTIONS: Final = (_OF_NODE, _OF_PROGRAM, _OF_INSTANCE, _OF_API)
MEASURES: Final = {measure.name: measure for section in SECTIONS for measure in section.measures}


def checked(samples: Iterable[Sample]) -> Iterator[tuple[Measure, Sample]]:
    """Each sample with its row of the table. Raises ValueError for what is not in it, or has other labels."""
    for sample in samples:
        measure = MEASURES.get(sample.name)
        if measure is None or measure.kind == "histogram" or len(sample.labels) != len(measure.labels):
            raise ValueError(f"{sample.name}{list(sample.labels)} is not in the table of metrics")
        yield measure, sample
