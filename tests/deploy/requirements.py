"""What steps require, and how they say what they have seen."""

from __future__ import annotations

from typing import Final

from tests.deploy.ansible import Outcome
from tests.deploy.errors import TrialError
from tests.deploy.trial import Figures

SWITCHOVER_MS_MAX: Final = 3000.0
"""What a client may wait at most where programs are handed over: bounded here, measured by `make bench-takeover`."""


def kept(seen: Figures) -> Figures:
    """What the client saw where nothing may be lost."""
    return {"failed": seen["failed"], "lost": seen["lost"], "longest_wait_ms": seen["longest_ms"]}


def require(is_so: bool, what: str) -> None:
    """TrialError unless it is so; `what` is what should be."""
    if not is_so:
        raise TrialError(f"there should be {what}")


def changes(said: str) -> str:
    """The lines in which a playbook says that it has changed something, with the name of the task."""
    lines, task = [], ""
    for line in said.splitlines():
        if line.startswith("TASK"):
            task = line
        elif line.startswith("changed:"):
            lines.append(f"{task} {line}")
    return "\n".join(lines)


def changes_nothing(outcome: Outcome) -> None:
    """TrialError if a playbook has changed something."""
    require(outcome.changes == 0, f"changed=0, not {dict(outcome.changed)}:\n{changes(outcome.said)}")
