"""Why a program's primary can't stay what it is, as far as the leader knows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cluster.leader.arrival import Arrival
from cluster.leader.facts import Facts
from cluster.leader.office import Office
from cluster.registry.values import ProgramEntry


@dataclass(frozen=True, slots=True)
class Trouble:
    """reason: for people, "" when there is none. wake_s: when to look again, though nothing happens."""

    reason: str
    wake_s: float = float("inf")


NONE: Final = Trouble("")


def trouble_of(
    now_s: float, office: Office, entry: ProgramEntry, facts: Facts, arrival: Arrival, begun_s: float | None
) -> Trouble:
    """Judge the primary. begun_s: when the change of the primary began that is under way, if one is."""
    if facts.exited_well():
        return NONE
    if facts.ended is not None:
        return Trouble(facts.ended.reason or f"the program ended with wait status {facts.ended.status:#x}")
    if facts.failed is not None:
        return Trouble(facts.failed.reason)
    wake_s = float("inf")
    for judged in (
        _of_node(now_s, office, entry),
        _of_agent(now_s, office, entry, facts),
        _of_arrival(now_s, entry, facts, arrival),
        _of_silence(now_s, office, entry, facts, begun_s),
    ):
        if judged.reason:
            return judged
        wake_s = min(wake_s, judged.wake_s)
    return Trouble(facts.unhealthy, wake_s)


def _of_node(now_s: float, office: Office, entry: ProgramEntry) -> Trouble:
    if not office.lost(now_s, entry.primary):
        return NONE
    if entry.extension is None:
        return Trouble(f"node {entry.primary} is lost")
    ends_s = office.grantor.ended_at_s(entry.program_id)
    if now_s < ends_s:
        return Trouble("", ends_s)
    return Trouble(f"node {entry.primary} did not come back from a restart of its daemon")


def _of_agent(now_s: float, office: Office, entry: ProgramEntry, facts: Facts) -> Trouble:
    if facts.agent_lost_s is None:
        return NONE
    limit_s = facts.agent_lost_s + office.patience.agent_s
    if facts.agent_alive and now_s < limit_s:
        return Trouble("", limit_s)
    return Trouble(f"the agent on node {entry.primary} is lost" + ("" if facts.agent_alive else ", program and all"))


def _of_arrival(now_s: float, entry: ProgramEntry, facts: Facts, arrival: Arrival) -> Trouble:
    late_s = arrival.late_s(entry, facts)
    if late_s is None:
        return NONE
    if now_s < late_s:
        return Trouble("", late_s)
    return Trouble(f"the program on node {entry.primary} did not come up in time")


def _of_silence(now_s: float, office: Office, entry: ProgramEntry, facts: Facts, begun_s: float | None) -> Trouble:
    """A node that is heard and does not ask for its primary's lease has no watchdog, or knows nothing of the primary:
    either way nobody serves. Without a mirror a primary of which its node knows is worth waiting for."""
    one = entry.primary_instance
    if one is None or one.status not in ("running", "mirrored", "fenced"):
        return NONE
    since_s = max(facts.asked_s, office.decides_since_s, office.grantor.ended_at_s(entry.program_id))
    limit_s = since_s + office.patience.unasked_s
    if begun_s is not None and begun_s < limit_s:
        return NONE  # Who is being fenced, or was, does not ask.
    if now_s < limit_s:
        return Trouble("", limit_s)
    if facts.primary_report(entry) is not None and not _has_mirror(now_s, office, entry):
        return NONE
    return Trouble(f"node {entry.primary} does not ask for the program's lease any more")


def _has_mirror(now_s: float, office: Office, entry: ProgramEntry) -> bool:
    return any(
        one.role == "mirror" and one.status == "mirrored" and not office.lost(now_s, one.node)
        for one in entry.instances
    )
