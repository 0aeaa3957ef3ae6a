"""`kagemusha status` against a control socket that answers for real."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kagemusha.command_line import run
from kagemusha.exit_codes import ExitCode
from tests.transport.sample_status import sample_status
from transport.control import Hello, Reply, Request, Status
from transport.control_socket import ControlServer
from transport.errors import ControlError

STATUS = sample_status()


async def status_of(path: Path, reply: Status | ControlError, *options: str) -> int:
    """The exit code of `kagemusha status`, asked of an agent that answers `reply`."""

    async def answer(_: Request) -> Reply:
        if isinstance(reply, ControlError):
            raise reply
        return reply

    async with ControlServer(path, answer, lambda: Hello("redis", "redis@a", 1, 1, 7000)):
        return await asyncio.to_thread(run, ["status", "--control", str(path), *options])


async def test_a_person_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await status_of(tmp_path / "control", STATUS) == ExitCode.OK
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "role primary, mirrored",
        "checkpoint 77, 77 taken or applied, 3 abandoned",
        "lag 1 checkpoints, 52 ms, 4,096 bytes",
        "pauses p50 700 us, p99 900 us, max 1200 us",
        "program pid 4711, 45 connections",
        "children 1, not mirrored",
        "refused 2 updates: stale_token",
        "mirror redis@b: full, checkpoint 77, 1 checkpoints behind, staleness 62 ms",
    ):
        assert words in shown
    assert "corrupt" not in shown


async def test_before_the_first_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = sample_status(staleness_ms=1e12, lag_ms=1e12, mirrors=())
    assert await status_of(tmp_path / "control", nothing) == ExitCode.OK
    assert "staleness nothing is mirrored yet" in " ".join(capsys.readouterr().out.split())


async def test_a_program_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await status_of(tmp_path / "control", STATUS, "--json") == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == {"token": 2, "number": 77, "digest": 5}
    assert found["mirrors"][0]["sync"]["bytes"] == 10


async def test_an_agent_that_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = ControlError("the agent is about to end", hint="wait")
    assert await status_of(tmp_path / "control", refusal) == ExitCode.CONTROL
    assert "the agent is about to end" in capsys.readouterr().err
