"""What the cluster needs to know of a program's file; the agent knows the rest. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster.health.check import Check
from cluster.redirect.redirection import Redirection
from cluster.registry.values import Policy, ProgramId


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
PreflightProgram = Callable[[Path], tuple[tuple[str, str], ...]]
"""What stands in the way of mirroring the program of that file from and to this node, each as what and remedy."""


def nothing_against(_: Path) -> tuple[tuple[str, str], ...]:
    """A preflight that looks at nothing."""
    return ()
