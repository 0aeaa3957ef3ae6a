"""Whether what a person asks of a program's primary can be done now. Pure."""

from __future__ import annotations

from cluster.leader.office import Office
from cluster.registry.commands import Rejected
from cluster.registry.values import InstanceId, ProgramEntry


def against_change(now_s: float, office: Office, entry: ProgramEntry, instance: InstanceId) -> Rejected | None:
    """Why this instance can't become the primary, or, if it is the primary, why none of its mirrors can; None: one can.

    Whether the primary itself is in a state for it is not looked at.
    """
    one = next((known for known in entry.instances if known.instance == instance), None)
    if one is None:
        return Rejected("unknown", f"there is no instance {instance}", "kagemusha list shows them")
    if one.node == entry.primary:
        if any(known.role == "mirror" and known.status == "mirrored" for known in entry.instances):
            return None
        return Rejected("unfit", f"no mirror of {entry.program_id} is up to date", "wait until one is mirrored")
    if one.status != "mirrored":
        why = f": {one.reason}" if one.reason else ""
        hint = f"wait until it is mirrored, or name another mirror; kagemusha status {instance} says more"
        return Rejected("unfit", f"{instance} is {one.status}, not mirrored{why}", hint)
    if office.lost(now_s, one.node):
        return Rejected("unfit", f"node {one.node} can't be reached", "is its daemon running?")
    return None


def against_switch(entry: ProgramEntry) -> Rejected | None:
    """Why its primary can't be held for a planned switchover."""
    primary = entry.primary_instance
    if primary is not None and primary.status in ("running", "mirrored"):
        return None
    what = f"{entry.program_id} has no primary" if primary is None else f"{primary.instance} is {primary.status}"
    return Rejected(
        "unfit", f"{what}: there is nothing to hand over", f"kagemusha start {entry.program_id}, if stopped"
    )


def under_way(entry: ProgramEntry) -> Rejected:
    """Its primary is being changed already."""
    hint = "wait, and look at its status"
    one = entry.primary_instance
    why = f": {one.instance} waits, {one.reason}" if one is not None and one.status == "starting" and one.reason else ""
    return Rejected("busy", f"a takeover of {entry.program_id} is under way already{why}", hint)
