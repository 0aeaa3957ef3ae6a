"""How a death is told from another."""

from __future__ import annotations

import signal

import pytest

from agent.tracing.program_event import Dying, Exited, death_kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0, "exited"),
        (3 << 8, "exited"),
        (signal.SIGKILL, "killed"),
        (signal.SIGSEGV | 0x80, "crashed"),
        (signal.SIGABRT | 0x80, "crashed"),
        (signal.SIGSYS, "crashed"),
        (signal.SIGTERM, "terminated"),
        (signal.SIGPIPE, "terminated"),
    ],
)
def test_kinds_of_death(status: int, kind: str) -> None:
    assert death_kind(status) == Exited(status).kind == Dying(status).kind == kind
