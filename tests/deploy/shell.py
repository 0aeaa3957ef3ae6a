"""Commands of this machine, run to their end."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.deploy.errors import TrialError

_TAIL_LINES = 25


def run(
    *argv: str, timeout_s: float = 60.0, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: str = ""
) -> str:
    """Run a command; gives what it wrote to stdout. Raises TrialError, with its last words, when it fails."""
    status, said = attempt(argv, timeout_s=timeout_s, env=env, cwd=cwd, stdin=stdin)
    if status:
        words = "\n".join(said.splitlines()[-_TAIL_LINES:])
        raise TrialError(f"{' '.join(argv)[:200]}: exit status {status}\n{words}")
    return said


def attempt(
    argv: Sequence[str],
    *,
    timeout_s: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> tuple[int, str]:
    """Run a command; gives its exit status, and what it wrote: to stdout, and after that to stderr if it failed."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, env=env, cwd=cwd, check=False
        )
    except FileNotFoundError:
        raise TrialError(f"the command {argv[0]} is not installed", hint="deploy/setup trial") from None
    except subprocess.TimeoutExpired as error:
        out = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else ""
        return 124, f"{out}\nno end within {timeout_s:g} s"
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")
