"""Which mirror continues a program: the newest complete checkpoint first, then who is better off. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cluster.registry.values import InstanceEntry, InstanceId, MirrorMember, NodeId, ProgramEntry
from transport.checkpoint import NOTHING, Version
from transport.control import InstanceStatus

LOAD_STEP: Final = 0.1
"""Loads that differ by less count as equal: what is measured is never the same twice, and would decide by chance."""
LATENCY_STEP_MS: Final = 2.0
"""The same for round trips; nodes of one site are all as near."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a mirror said of itself: in a heartbeat, or asked.

    version: the newest checkpoint that it holds complete and verified. captured_ns: CLOCK_REALTIME of the stop that it
    was taken in (on the primary's node), about, 0 when unknown. staleness_ms: age of that. load: of its node, share of
    all processors in use. latency_ms: of the path from its node to the others. unwell: what speaks against it as the
    next primary, though it could be one; "" for nothing.
    """

    instance: InstanceId
    incarnation: int
    status: InstanceStatus
    version: Version
    captured_ns: int = 0
    staleness_ms: float = 0.0
    load: float = 0.0
    latency_ms: float = 0.0
    unwell: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The best mirror, None when none will do; for each that will not do, why; and because of what it is the best."""

    best: Held | None
    against: Mapping[InstanceId, str]
    because: str = ""


def select(
    entry: ProgramEntry,
    held: Mapping[InstanceId, Held],
    reachable: Collection[NodeId],
    excluded: Mapping[InstanceId, str],
    drained: Collection[NodeId] = (),
) -> Choice:
    """Return the mirror to promote. excluded: mirrors that have been tried in vain, with the reason. drained: nodes
    that are only taken where no other holds as new a checkpoint.

    The original of a switchover comes before all: it has everything, and need not be made again. Then the
    order: token, then time of the stop, then number of its checkpoint (numbers begin anew when the primary's agent is
    started again, so the time comes first); not drained; health, load, latency; and the id, so that the choice is the
    same wherever it is made.
    """
    against: dict[InstanceId, str] = {}
    fit: list[_Candidate] = []
    for one in entry.instances:
        if one.node == entry.primary:
            continue
        mirror = held.get(one.instance)
        reason = excluded.get(one.instance) or _reason_against(entry, one, mirror, one.node in reachable)
        if reason or mirror is None:
            against[one.instance] = reason
            continue
        if _is_original(entry, mirror):
            return Choice(mirror, against, "it is the original, and has everything")
        fit.append(_Candidate(mirror, one.node in drained, _captured_ns(mirror, held.values())))
    fit.sort(key=lambda candidate: candidate.order)
    if not fit:
        return Choice(None, against)
    because = fit[0].before(fit[1]) if len(fit) > 1 else _alone(against)
    return Choice(fit[0].mirror, against, because)


def _captured_ns(mirror: Held, held: Iterable[Held]) -> int:
    """When its checkpoint was taken: one time for all who hold that checkpoint, as each knows it only about."""
    return max((one.captured_ns for one in held if one.version == mirror.version), default=mirror.captured_ns)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A mirror that will do. captured_ns: of its checkpoint, the same for all who hold it."""

    mirror: Held
    is_drained: bool
    captured_ns: int

    @property
    def order(self) -> tuple[float | str, ...]:
        """The lower, the better; what comes first counts most."""
        version, mirror = self.mirror.version, self.mirror
        newest = (-version.token, -self.captured_ns, -version.number)
        off = (self.is_drained, bool(mirror.unwell))
        steps = (round(mirror.load / LOAD_STEP), round(mirror.latency_ms / LATENCY_STEP_MS))
        return (*newest, *off, *steps, mirror.instance)

    def before(self, other: _Candidate) -> str:
        """Why this one is better than that one, by the first thing in which they differ."""
        own, second = self.mirror, other.mirror
        name = second.instance
        by = next(place for place, (one, two) in enumerate(zip(self.order, other.order, strict=True)) if one != two)
        newer_ms = (self.captured_ns - other.captured_ns) / 1e6
        return (
            f"its checkpoint is of a later primary than that of {name}",
            f"its checkpoint is {newer_ms:.0f} ms newer than that of {name}",
            f"its checkpoint is newer than that of {name}",
            f"the node of {name}, which holds as much, is drained",
            f"{name}, which holds as much, is not well: {second.unwell}",
            f"its node is less busy ({own.load:.0%}) than that of {name} ({second.load:.0%}), with as much",
            f"its node is nearer to the others ({own.latency_ms:.0f} ms) than that of {name} "
            f"({second.latency_ms:.0f} ms), which holds as much",
            f"its id comes first, and {name} holds as much and is as well off",
        )[by]


def _alone(against: Mapping[InstanceId, str]) -> str:
    if not against:
        return "it is the only mirror"
    return "no other will do: " + ", ".join(f"{instance} {reason}" for instance, reason in against.items())


def _is_original(entry: ProgramEntry, mirror: Held) -> bool:
    """Whether it is the program itself, held at the checkpoint which the present primary was to continue from."""
    promotion = entry.last_promotion
    return mirror.status == "fenced" and promotion is not None and mirror.version == promotion.version != NOTHING


def _reason_against(entry: ProgramEntry, one: InstanceEntry, mirror: Held | None, reachable: bool) -> str:
    """Why this mirror can't be promoted, "" when it can."""
    if not reachable:
        return f"node {one.node} can't be reached"
    if mirror is None:
        return "has not said what it holds"
    if mirror.incarnation < one.incarnation:
        return f"what it said was of incarnation {mirror.incarnation}, it is in {one.incarnation} now"
    if one.status == "failed" and mirror.incarnation == one.incarnation:
        return f"has failed: {one.reason}"
    if mirror.status in ("failed", "fenced", "stopped") and not _is_original(entry, mirror):
        return f"is {mirror.status}"
    if mirror.version == NOTHING:
        return "holds no complete checkpoint yet"
    if mirror.version.token > entry.token:
        return f"holds {mirror.version}, which no primary up to token {entry.token} made"
    if entry.policy.guarantee == "sync" and MirrorMember(one.instance, mirror.incarnation) not in entry.in_sync:
        return "is not in the in-sync set"
    return ""
