"""From what the registry, the agents and the heartbeats say to what the API answers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cluster.admin.history import moment
from cluster.admin.models import (
    Checkpoint,
    FailureView,
    InstanceSummary,
    InstanceView,
    MirrorProgress,
    NodeView,
    Pauses,
    ProgramView,
    PromotionView,
    Step,
    StructuresView,
    StructureView,
)
from cluster.admin.models import Sync as SyncView
from cluster.node.messages import Load
from cluster.registry.values import InstanceEntry, InstanceId, NodeEntry, NodeId, Placement, ProgramEntry
from transport.checkpoint import NOTHING, Version
from transport.control import Status, Sync
from transport.structure_view import Structures

_NEVER_MS: Final = 1e11
"""An age of years: of a mirror that holds nothing; see `agent.instance_view`."""


def checkpoint_view(version: Version) -> Checkpoint | None:
    """None for NOTHING."""
    if version == NOTHING:
        return None
    return Checkpoint(token=version.token, number=version.number, digest=f"{version.digest:016x}")


@dataclass(frozen=True, slots=True)
class Served:
    """What the leader noted when the new primary served. at: ISO 8601, UTC. parts: microseconds, by name_us."""

    at: str
    parts: tuple[tuple[str, int], ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """For a client."""
        return tuple(Step(name=name.removesuffix("_us"), took_us=max(took_us, 0)) for name, took_us in self.parts)


def program_view(entry: ProgramEntry, served: Served | None) -> ProgramView:
    """A program as the registry has it. served: of its last promotion, where that is known."""
    in_sync = {member.instance for member in entry.in_sync}
    promotion = entry.last_promotion
    return ProgramView(
        program=entry.program_id,
        config_file=entry.config_file,
        config_digest=entry.config_digest,
        token=entry.token,
        primary=entry.primary or None,
        paused=entry.paused,
        paused_until=moment(entry.paused_until_s) if entry.paused and entry.paused_until_s else None,
        guarantee=entry.policy.guarantee,
        shut_down=entry.shut_down,
        takeovers=len(entry.takeovers),
        fenced=entry.fence is not None,
        last_promotion=None
        if promotion is None
        else PromotionView(
            token=promotion.token,
            instance=promotion.instance,
            checkpoint=checkpoint_view(promotion.version),
            reason=promotion.reason,
            served_at=None if served is None else served.at,
            timeline=() if served is None else served.steps,
        ),
        instances=tuple(
            InstanceSummary(
                instance=one.instance,
                node=one.node,
                role=one.role,
                status=one.status,
                reason=one.reason or _why_starting(entry, one),
                in_sync=one.instance in in_sync,
            )
            for one in entry.instances
        ),
    )


def instance_view(entry: ProgramEntry, status: Status, lease_age_ms: float | None) -> InstanceView:
    """What an agent says of an instance. The registry has the last word on a fence, which an agent may not know of.

    lease_age_ms: since the leader last renewed the lease of a primary, None for a mirror.
    """
    place = Placement.parse(status.instance)
    known = entry.instance_on(place.node)
    fenced = known is not None and known.status == "fenced"
    agreed = "" if known is None else known.reason
    # Told to serve, and waiting for its address: its agent knows nothing of that.
    waits = known is not None and (known.role, known.status, status.role) == ("primary", "starting", "mirror")
    return InstanceView(
        instance=status.instance,
        program=status.program,
        node=place.node,
        role="primary" if waits else status.role,
        status="fenced" if fenced else "starting" if waits else status.status,
        reason=(agreed or status.reason) if waits else (status.reason or agreed),
        token=status.token,
        guarantee=entry.policy.guarantee,
        checkpoint=checkpoint_view(status.version),
        lag_checkpoints=max(status.lag_checkpoints, 0),
        lag_ms=_age(status.lag_ms),
        lag_bytes=max(status.lag_bytes, 0),
        lease_age_ms=lease_age_ms,
        pauses=Pauses(p50_us=status.pauses.p50_us, p99_us=status.pauses.p99_us, max_us=status.pauses.max_us),
        checkpoints=status.checkpoints,
        abandoned=status.abandoned,
        refused=status.refused,
        streamed_bytes=status.bytes,
        memory_bytes=status.memory_bytes,
        sync=_sync(status.sync),
        mirrors=tuple(
            MirrorProgress(
                instance=one.instance,
                state=one.state,
                checkpoint=checkpoint_view(one.version),
                lag_checkpoints=max(one.lag_checkpoints, 0),
                lag_bytes=max(one.lag_bytes, 0),
                staleness_ms=_age(one.staleness_ms),
                sync=_sync(one.sync),
            )
            for one in status.mirrors
        ),
        connections=status.connections,
        children=status.children,
        pid=status.pid,
        paused=entry.paused,
        last_failure=_failure(entry),
    )


def structures_view(found: Structures) -> StructuresView:
    """The named structures of an instance, as its agent shows them."""
    return StructuresView(
        instance=found.instance,
        program=found.program,
        role=found.role,
        structures=tuple(
            StructureView(
                name=one.name,
                source=one.source,
                size_bytes=one.size_bytes,
                version=one.version,
                age_ms=one.age_ms,
                trouble=one.trouble,
                content=json.loads(one.content) if one.content else None,
            )
            for one in found.structures
        ),
    )


def view_without_agent(entry: ProgramEntry, instance: InstanceId, why: str) -> InstanceView:
    """What the registry says of an instance whose agent can't be asked; why: it can't. Counters are 0 then."""
    place = Placement.parse(instance)
    known = entry.instance_on(place.node)
    return InstanceView(
        instance=instance,
        program=place.program,
        node=place.node,
        role=known.role if known is not None else "mirror",
        status=known.status if known is not None else "failed",
        reason=(known.reason or _why_starting(entry, known) if known is not None else "") or why,
        token=entry.token,
        guarantee=entry.policy.guarantee,
        checkpoint=None,
        lag_checkpoints=0,
        lag_ms=None,
        lag_bytes=0,
        lease_age_ms=None,
        pauses=Pauses(p50_us=0, p99_us=0, max_us=0),
        checkpoints=0,
        abandoned=0,
        refused={},
        streamed_bytes=0,
        memory_bytes=0,
        sync=None,
        mirrors=(),
        connections=0,
        children=0,
        pid=0,
        paused=entry.paused,
        last_failure=_failure(entry),
    )


def node_views(
    nodes: Mapping[NodeId, NodeEntry],
    programs: Iterable[ProgramEntry],
    heard_ms: Mapping[NodeId, float],
    alive: Iterable[NodeId],
    leader: NodeId | None,
    loads: Mapping[NodeId, Load],
) -> tuple[NodeView, ...]:
    """All nodes, ascending. heard_ms: age of the last heartbeat of each; alive: those that are heard from now."""
    instances: dict[NodeId, list[str]] = {}
    for entry in programs:
        for one in entry.instances:
            instances.setdefault(one.node, []).append(one.instance)
    living = set(alive)
    return tuple(
        NodeView(
            node=name,
            address=nodes[name].address,
            admin=nodes[name].admin,
            alive=name in living,
            leader=name == leader,
            heartbeat_age_ms=heard_ms.get(name),
            cpu=loads[name].cpu if name in loads else None,
            free_bytes=loads[name].free_bytes if name in loads else None,
            latency_ms=loads[name].latency_ms if name in loads else None,
            trouble=loads[name].trouble if name in loads else "",
            instances=tuple(sorted(instances.get(name, ()))),
            drained=nodes[name].drained,
        )
        for name in sorted(nodes)
    )


def _why_starting(entry: ProgramEntry, one: InstanceEntry) -> str:
    """Why a program is started again that did not come up before; "" for all else."""
    promotion = entry.last_promotion
    if promotion is None or promotion.instance != one.instance or one.status != "starting":
        return ""
    return promotion.reason if promotion.version == NOTHING and promotion.fence_id else ""


def _failure(entry: ProgramEntry) -> FailureView | None:
    last = entry.last_failure
    return None if last is None else FailureView(instance=last.instance, reason=last.reason, at=moment(last.at_s))


def _age(age_ms: float) -> float | None:
    return None if age_ms >= _NEVER_MS else max(age_ms, 0.0)


def _sync(sync: Sync | None) -> SyncView | None:
    if sync is None:
        return None
    return SyncView(done_bytes=sync.bytes, total_bytes=sync.total_bytes, bytes_per_s=sync.bytes_per_s)
