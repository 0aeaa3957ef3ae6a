"""What a definition says is to be done when the role changes: signals and commands, which may fail or hang."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import structlog

from agent.program import Definition
from agent.warm.role_hooks import RoleHooks


def hooks(**given: Any) -> RoleHooks:
    definition = Definition.model_validate(
        {
            "program": {"id": "warm", "command": ["/bin/true"]},
            "mirror": {"mode": "structures"},
            "hooks": given,
        }
    )
    return RoleHooks(definition, "warm@a")


async def test_a_command_knows_what_has_changed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    words = "$KAGEMUSHA_PROGRAM $KAGEMUSHA_INSTANCE $KAGEMUSHA_ROLE $KAGEMUSHA_PID $KAGEMUSHA_TOKEN"
    await hooks(on_promote=["/bin/sh", "-c", f"echo {words} > {told}"]).run("primary", 7, 4711)
    assert told.read_text() == "warm warm@a primary 4711 7\n"


async def test_each_role_has_its_own(tmp_path: Path) -> None:
    one = hooks(
        on_promote=["/usr/bin/touch", str(tmp_path / "up")], on_demote=["/usr/bin/touch", str(tmp_path / "down")]
    )
    await one.run("mirror", 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["down"]


async def test_a_signal_reaches_the_program() -> None:
    came = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, came.set)
    try:
        await hooks(on_demote_signal="SIGUSR2").run("mirror", 1, os.getpid())
        await asyncio.wait_for(came.wait(), 5)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)


async def test_what_fails_is_said_and_stops_nothing() -> None:
    with structlog.testing.capture_logs() as said:
        await hooks(on_promote=["/bin/sh", "-c", "echo no such unit; exit 3"]).run("primary", 1, 1)
        await hooks(on_promote=["/nowhere/at/all"]).run("primary", 1, 1)
    assert [one["reason"] for one in said] == [
        "it ended with status 3: no such unit",
        "No such file or directory",
    ]


async def test_a_command_that_hangs_is_ended_with_all_that_it_started() -> None:
    begun_s = time.monotonic()
    with structlog.testing.capture_logs() as said:
        await hooks(on_promote=["/bin/sh", "-c", "sleep 60 & sleep 60"], timeout_ms=200).run("primary", 1, 1)
    assert time.monotonic() - begun_s < 30
    assert [one["reason"] for one in said] == ["it does not end within 0.2 s"]


async def test_nothing_is_done_where_nothing_is_said() -> None:
    with structlog.testing.capture_logs() as said:
        await hooks().run("primary", 1, 0)
    assert said == []
