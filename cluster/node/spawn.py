"""Processes that outlive the daemon: sessions of their own, output to a file, found again by what they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from transport.errors import KagemushaError


def spawn(command: Sequence[str], output: Path, environment: Mapping[str, str]) -> int:
    """Start a command; its output is added to the file. Gives its pid; `reap` it when it has ended.

    Raises KagemushaError when it can't be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), flags & ~os.O_CLOEXEC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        return os.posix_spawn(command[0], list(command), dict(environment), file_actions=actions, setsid=True)
    except OSError as error:
        raise KagemushaError(
            f"can't start {command[0]}: {error.strerror}", hint=f"its output goes to {output}"
        ) from None


def reap(pid: int) -> int | None:
    """The exit code of a child that has ended (negative: the signal); None while it runs or where it is no child."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None
