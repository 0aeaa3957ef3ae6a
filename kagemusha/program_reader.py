"""The agent's reading of a program's file, as far as the cluster needs to know it."""

from __future__ import annotations

from pathlib import Path

from agent.program_file import load_definition
from cluster.program import ProgramFile
from cluster.values import Policy


def read_program(path: Path) -> ProgramFile:
    """Read the file at `path`. Raises ConfigError."""
    definition = load_definition(path)
    redirect, failover = definition.redirect, definition.failover
    return ProgramFile(
        program=definition.program.id,
        digest=definition.digest(),
        policy=Policy(
            guarantee=definition.mirror.guarantee,
            restart="never" if failover.restart == "never" else "always",
            takeovers_max=failover.max_takeovers,
            takeovers_window_s=failover.window_s,
        ),
        address=redirect.address if redirect is not None else "",
        interface=redirect.interface if redirect is not None else "",
        grace_ms=failover.grace_ms,
    )
