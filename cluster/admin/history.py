"""What was agreed, in words: the events of the API, made of the commands as every node applies them. Pure.

The index of an event is the number of its command in the registry, so a client may ask any node for what came after.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cluster.admin.models import Event, EventKind
from cluster.registry.commands import (
    Command,
    CreateProgram,
    DeleteProgram,
    Drain,
    Fenced,
    Ok,
    Pause,
    Promote,
    Result,
    Resume,
    SetInstance,
    SetInSync,
    SetNode,
    ShutDown,
    Started,
    TakeOffice,
    Unfence,
)
from cluster.registry.values import Placement


def moment(at_s: int) -> str:
    """Seconds of CLOCK_REALTIME as ISO 8601, UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def event_of(index: int, at: str, command: Command, result: Result) -> Event | None:
    """The event of a command that was applied; None for one that changed nothing, or nothing that anybody asks for.

    index: `Registry.applied` after it. at: the node's time, ISO 8601, UTC.
    """
    if not isinstance(result, Ok):
        return None
    words = _words(command, result)
    if words is None:
        return None
    kind, program, instance, node, text = words
    return Event(index=index, at=at, kind=kind, program=program, instance=instance, node=node, text=text)


def _words(command: Command, result: Ok) -> tuple[EventKind, str, str, str, str] | None:
    match command:
        case TakeOffice(node=node, term=term):
            return "leader-changed", "", "", node, f"node {node} leads in term {term}"
        case CreateProgram(program_id=program, nodes=nodes):
            return "program-created", program, "", "", f"program {program} is to run on {', '.join(nodes)}"
        case DeleteProgram(program=program):
            return "program-deleted", program, "", "", f"program {program} is forgotten"
        case SetInstance(program=program, instance=instance, role=role, status=status, reason=reason):
            why = f": {reason}" if reason else ""
            text = f"{role} {instance} is {status}{why}"
            return "instance-changed", program, instance, Placement.parse(instance).node, text
        case Fenced(program=program, node=node, confirmed=confirmed):
            how = "it has no effect any more" if confirmed else "its lease has run out"
            return "primary-fenced", program, f"{program}@{node}", node, f"primary {program}@{node} is fenced: {how}"
        case Unfence(program=program):
            return "primary-unfenced", program, "", "", f"the primary of {program} serves on"
        case Promote(program=program, instance=instance, version=version, reason=reason, because=because):
            why = f": {reason}" if reason else ""
            chosen = f"; chosen because {because}" if because else ""
            text = f"{instance} goes on from checkpoint {version.number} under token {result.value}{why}{chosen}"
            return "primary-promoted", program, instance, Placement.parse(instance).node, text
        case Started(program=program, instance=instance, reason=reason):
            why = f": {reason}" if reason else ""
            text = f"{instance} starts anew under token {result.value}{why}"
            return "program-started", program, instance, Placement.parse(instance).node, text
        case SetInSync(program=program, members=members):
            names = ", ".join(member.instance for member in members) or "nobody"
            return "in-sync-changed", program, "", "", f"{program} is in sync with {names}"
        case Pause(program=program, until_s=until_s):
            until = f"until {moment(until_s)}" if until_s else "until it is resumed"
            return "paused", program, "", "", f"no failover of {program} {until}"
        case Drain(node=node, over=over):
            what = "programs may come to node" if over else "no program comes to node"
            return "undrained" if over else "drained", "", "", node, f"{what} {node}"
        case Resume(program=program):
            return "resumed", program, "", "", f"failover of {program} again"
        case ShutDown(program=program):
            text = f"{program} is ended for a shutdown of the cluster; startup starts it again"
            return "shut-down", program, "", "", text
        case SetNode(node=node, address=address, admin=admin):
            return "node-changed", "", "", node, f"node {node} is at {address}, its API at {admin}"
        case _:
            return None
