"""The demo's own controller: who serves (pure). The cluster decides this for real, with a quorum and leases.

It knows one primary, at most one mirror and the fencing token. The order of its effects is the order in which they
must be done: a mirror is activated only after the old primary is known to be fenced (its agent says so, or its node
is cut off), and the old primary's agent lets go of what it holds only when the new one serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from transport.checkpoint import Version


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A mirror holds a complete checkpoint and may be activated."""

    node: str


@dataclass(frozen=True, slots=True)
class MirrorFailed:
    """A mirror can't be activated any more."""

    node: str


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """An agent reports the end of its program. `by_itself`: it exited with status 0. `fenced`: nothing of it reaches
    anyone any more. `final`: the last checkpoint, taken from the dying process or at a planned hand-over; None: there
    is none, the newest checkpoint that the mirror has must do."""

    node: str
    by_itself: bool
    fenced: bool
    final: Version | None


@dataclass(frozen=True, slots=True)
class NodeLost:
    """An agent's connection has ended. `fenced`: its node's link is cut, nothing of it reaches anyone."""

    node: str
    fenced: bool


@dataclass(frozen=True, slots=True)
class Activated:
    """A mirror serves."""

    node: str


Event = Mirrored | MirrorFailed | ProgramEnded | NodeLost | Activated


@dataclass(frozen=True, slots=True)
class Activate:
    """Let a mirror continue the program from `version`, None: from the newest that it has."""

    node: str
    token: int
    version: Version | None


@dataclass(frozen=True, slots=True)
class Release:
    """The old primary's agent may let go of what it holds of the dead program."""

    node: str


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Start the node's agent anew, as a mirror of `primary`."""

    node: str
    primary: str
    token: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody may serve, for this reason."""

    why: str


Effect = Activate | Release | Rebuild | GiveUp


@dataclass(frozen=True, slots=True)
class Standing:
    """Who serves, who could. `mirror`: None while there is none that could be activated. `promoting`: a mirror that
    was told to serve and has not answered; `lost`: nodes that are no more."""

    primary: str
    token: int
    mirror: str | None = None
    promoting: str | None = None
    lost: frozenset[str] = frozenset()


def step(standing: Standing, event: Event) -> tuple[Standing, list[Effect]]:
    """Decide. Returns the new standing and what must be done, in this order."""
    match event:
        case Mirrored(node) if node not in (standing.primary, standing.promoting):
            return replace(standing, mirror=node), []
        case MirrorFailed(node) if node == standing.mirror:
            return replace(standing, mirror=None), []
        case MirrorFailed(node) if node == standing.promoting:
            return standing, [GiveUp(f"the mirror on node {node} failed while it took over")]
        case NodeLost(node, fenced):
            return _node_lost(replace(standing, lost=standing.lost | {node}), node, fenced)
        case ProgramEnded(node) if node == standing.primary and standing.promoting is None:
            return _program_ended(standing, event)
        case Activated(node) if node == standing.promoting:
            return _activated(standing, node)
    return standing, []


def _node_lost(standing: Standing, node: str, fenced: bool) -> tuple[Standing, list[Effect]]:
    if node == standing.mirror:
        return replace(standing, mirror=None), []
    if node == standing.promoting:
        return standing, [GiveUp(f"node {node} was lost while it took over")]
    if node != standing.primary or standing.promoting is not None:
        return standing, []
    if not fenced:
        return standing, [GiveUp(f"the agent on node {node} is gone but its program may still serve")]
    return _promote(standing, None)


def _program_ended(standing: Standing, event: ProgramEnded) -> tuple[Standing, list[Effect]]:
    if event.by_itself:
        return standing, [GiveUp(f"the program on node {event.node} ended by itself")]
    if not event.fenced:
        return standing, [GiveUp(f"the program on node {event.node} ended, but is not fenced")]
    return _promote(standing, event.final)


def _promote(standing: Standing, version: Version | None) -> tuple[Standing, list[Effect]]:
    if standing.mirror is None:
        return standing, [GiveUp(f"the primary on node {standing.primary} is gone and there is no mirror")]
    token = standing.token + 1
    told = replace(standing, token=token, mirror=None, promoting=standing.mirror)
    return told, [Activate(standing.mirror, token, version)]


def _activated(standing: Standing, node: str) -> tuple[Standing, list[Effect]]:
    old = standing.primary
    serving = replace(standing, primary=node, promoting=None)
    if old in standing.lost:
        return serving, []
    return serving, [Release(old), Rebuild(old, node, standing.token)]
