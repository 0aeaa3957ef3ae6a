"""The clients of both programs, with the programs themselves: one that was killed and started empty has lost all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic_ns

import pytest

from kagemusha.demo.errors import DemoError
from kagemusha.demo.structures.dialects import Trader, User
from kagemusha.demo.structures.load import Load
from kagemusha.demo.structures.programs import EXAMPLES
from tests.agent.structures.built import built

ROOT = Path(__file__).resolve().parents[4]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def exchange(port: int) -> list[str]:
    return [sys.executable, str(EXAMPLES / "exchange" / "service.py"), str(port)]


def sessions(port: int) -> list[str]:
    return [str(built(str(EXAMPLES / "sessions" / "sessions.c"), "-g", "-O2")), str(port)]


@contextlib.asynccontextmanager
async def running(command: list[str], port: int) -> AsyncIterator[None]:
    """Run a program until the block ends; it listens when the block begins."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        writer.close()
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(("program", "command"), [("exchange", exchange), ("sessions", sessions)])
async def test_all_is_lost_with_a_program_that_is_not_mirrored(
    program: str, command: Callable[[int], list[str]]
) -> None:
    load, port = Load(), free_port()
    try:
        async with running(command(port), port):
            await load.fill(program, "127.0.0.1", port, 450)
            await load.connect(program, "127.0.0.1", port, clients=3, per_second=300)
            assert (await load.measure(0.3))["updates_per_second"] > 0
        event_ns = monotonic_ns()
        async with running(command(port), port):
            found = await load.settle(event_ns)
    finally:
        await load.close()
    assert (found["absent"], found["wrong"]) == ([], [])
    assert found["lost"] == found["acknowledged"] > 0
    assert found["oldest_lost_ns"] < event_ns
    assert found["gap_ns"] > 0


async def test_an_answer_that_is_none_is_an_error() -> None:
    async def ask(line: str) -> str:
        return "WHAT"

    with pytest.raises(DemoError, match="WHAT"):
        await Trader("ann").begin(ask)
    with pytest.raises(DemoError, match="does not balance: WHAT"):
        await Trader("ann").audit(ask)
    with pytest.raises(DemoError, match="WHAT"):
        await User("ann").begin(ask)
    with pytest.raises(EOFError):
        User("ann").judge(3, "OK 4")
