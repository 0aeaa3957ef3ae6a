"""From what a node knows to samples of its metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cluster.admin.models import Health, InstanceView, ProgramView
from cluster.metrics.table import Sample


def of_group(health: Health, nodes: int) -> Iterator[Sample]:
    """What this node knows of the group of so many."""
    yield Sample("kagemusha_quorum", float(health.quorum))
    yield Sample("kagemusha_leader", float(health.leader == health.node))
    yield Sample("kagemusha_leader_known", float(health.leader is not None))
    yield Sample("kagemusha_term", float(health.term))
    yield Sample("kagemusha_nodes", float(nodes))
    yield Sample("kagemusha_nodes_missing", float(len(health.missing)))


def of_programs(programs: Iterable[ProgramView]) -> Iterator[Sample]:
    """What the registry says of each."""
    for one in programs:
        labels = (one.program,)
        primary = next((each for each in one.instances if each.role == "primary"), None)
        status = primary.status if primary is not None else "starting"
        mirrors = [each for each in one.instances if each.role == "mirror" and each.status == "mirrored"]
        yield Sample("kagemusha_program_token", float(one.token), labels)
        yield Sample("kagemusha_program_serving", float(status in ("running", "mirrored")), labels)
        yield Sample("kagemusha_program_stopped", float(status == "stopped"), labels)
        yield Sample("kagemusha_program_fenced", float(one.fenced), labels)
        yield Sample("kagemusha_program_instances", float(len(one.instances)), labels)
        yield Sample("kagemusha_program_mirrors", float(len(mirrors)), labels)
        yield Sample("kagemusha_program_paused", float(one.paused), labels)


def of_instances(instances: Iterable[InstanceView]) -> Iterator[Sample]:
    """What the agents of this node say. One without an agent has no numbers: those of before would mean nothing."""
    for one in instances:
        yield Sample("kagemusha_instance", 1.0, (one.program, one.role, one.status))
        if one.pid or one.checkpoint is not None or one.checkpoints:
            yield from _of_instance(one)


def _of_instance(one: InstanceView) -> Iterator[Sample]:
    labels = (one.program,)
    numbers = {
        "kagemusha_instance_token": one.token,
        "kagemusha_checkpoint": None if one.checkpoint is None else one.checkpoint.number,
        "kagemusha_lag_checkpoints": one.lag_checkpoints,
        "kagemusha_lag_bytes": one.lag_bytes,
        "kagemusha_lag_seconds": _seconds(one.lag_ms),
        "kagemusha_memory_bytes": one.memory_bytes,
        "kagemusha_connections": one.connections,
        "kagemusha_children": one.children,
        "kagemusha_sync_done_bytes": None if one.sync is None else one.sync.done_bytes,
        "kagemusha_sync_total_bytes": None if one.sync is None else one.sync.total_bytes,
        "kagemusha_checkpoints_total": one.checkpoints,
        "kagemusha_checkpoints_abandoned_total": one.abandoned,
        "kagemusha_streamed_bytes_total": one.streamed_bytes,
    }
    for name, value in numbers.items():
        if value is not None:
            yield Sample(name, float(value), labels)
    pauses = one.pauses
    if one.role == "primary":
        for share, us in (("0.5", pauses.p50_us), ("0.99", pauses.p99_us), ("1", pauses.max_us)):
            yield Sample("kagemusha_pause_seconds", us / 1e6, (one.program, share))
    for reason, count in sorted(one.refused.items()):
        yield Sample("kagemusha_refused_total", float(count), (one.program, reason))
    for mirror in one.mirrors:
        to = (one.program, mirror.instance.partition("@")[2])
        yield Sample("kagemusha_mirror_lag_checkpoints", float(mirror.lag_checkpoints), to)
        yield Sample("kagemusha_mirror_lag_bytes", float(mirror.lag_bytes), to)
        age_s = _seconds(mirror.staleness_ms)
        if age_s is not None:
            yield Sample("kagemusha_mirror_lag_seconds", age_s, to)


def _seconds(age_ms: float | None) -> float | None:
    return None if age_ms is None else age_ms / 1000
