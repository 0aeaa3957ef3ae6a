"""Preflight of named structures: what would be refused of one when the program runs is refused before."""

from __future__ import annotations

from typing import Any

from agent.preflight.named import structure_checks
from agent.program import Definition
from tests.agent.structures.built import built


def reasons(program: str, **table: Any) -> list[str]:
    """What speaks against a table of a whole process."""
    definition = Definition.model_validate(
        {"program": {"id": "sessions", "command": [program]}, "structures": [{"symbol": "g_sessions", **table}]}
    )
    [check] = structure_checks(definition)[0]
    return [reason.what for reason in check.reasons]


def test_what_is_only_shown_may_hold_locks() -> None:
    program = str(built("sessions.c", "-g"))
    assert reasons(program) == []
    assert reasons(program, interval_ms=10) == []


def test_what_a_takeover_goes_on_from_may_not() -> None:
    program = str(built("sessions.c", "-g"))
    [why] = reasons(program, interval_ms=10, independent=True)
    assert "g_sessions.entries[].lock is a pthread_mutex_t" in why
    assert reasons(program, interval_ms=10, independent=True, exclude=["g_sessions.entries.lock"]) == []


def test_what_is_read_between_checkpoints_has_a_limit_of_its_own() -> None:
    program = str(built("sessions.c", "-g", "-DCOUNT=120000", name="large"))
    assert reasons(program) == []
    [why] = reasons(program, interval_ms=10)
    assert why.startswith("g_sessions has 9.2 MiB; 8 MiB at most")
