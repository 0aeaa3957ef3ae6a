"""What the cluster needs to know of a program's file; the agent knows the rest. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster.health.check import Check
from cluster.redirect.redirection import Redirection
from cluster.registry.values import NodeId, Policy, ProgramId


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """digest: of its meaning. address: "10.0.0.100/24" with the interface that carries it; both "" without a redirect.
    grace_ms: from SIGTERM to SIGKILL. checks: of its health. redirection: how clients find it."""

    program: ProgramId
    digest: str
    policy: Policy
    address: str
    interface: str
    grace_ms: int
    checks: tuple[Check, ...] = ()
    redirection: Redirection = field(default_factory=Redirection)


ReadProgramFile = Callable[[Path], ProgramFile]
"""Reads the file at a path. Raises ConfigError."""
Reasons = tuple[tuple[str, str], ...]
"""What stands in the way, each as what and remedy."""


@dataclass(frozen=True, slots=True)
class Findings:
    """reasons: against mirroring the program from and to this node. facts: what must be equal on two nodes for a mirror
    to go on where its primary was, as text that only who wrote it reads; "" if that can't be said."""

    reasons: Reasons = ()
    facts: str = ""


PreflightProgram = Callable[[Path], Findings]
"""Looks at the program of that file and at this node. Raises KagemushaError."""
CompareNodes = Callable[[NodeId, str, NodeId, str], Reasons]
"""Why what runs on the first node, with these facts, could not go on on the second one, with those."""


def nothing_against(_: Path) -> Findings:
    """A preflight that looks at nothing."""
    return Findings()


def all_alike(*_: object) -> Reasons:
    """A comparison that looks at nothing."""
    return ()
