"""An agent asked at its control socket: one that answers something else, nothing at all, or is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kagemusha.commands.agent_access import ask_agent
from tests.transport.sample_status import sample_status
from transport.control import GetStatus, Hello, Ok, Reply, Request, Status
from transport.control_socket import ControlServer
from transport.errors import ControlError

DEADLINE_S = 20


def ask(path: Path, limit_s: float = DEADLINE_S) -> Status:
    return ask_agent(path, GetStatus(), Status, about="the status", limit_s=limit_s)


def served(path: Path, answer: Callable[[Request], Awaitable[Reply]]) -> ControlServer:
    """The control socket of an agent that answers so."""
    return ControlServer(path, answer, lambda: Hello("redis", "redis@a", 1, 1, 7000))


async def test_the_answer_is_what_the_agent_says(tmp_path: Path) -> None:
    async def answer(request: Request) -> Reply:
        assert request == GetStatus()
        return sample_status()

    async with served(tmp_path / "control", answer):
        assert await asyncio.to_thread(ask, tmp_path / "control") == sample_status()


async def test_another_answer_is_none(tmp_path: Path) -> None:
    async def answer(_: Request) -> Reply:
        return Ok()

    async with served(tmp_path / "control", answer):
        with pytest.raises(ControlError, match="control: Ok is no answer to a question for the status"):
            await asyncio.to_thread(ask, tmp_path / "control")


async def test_an_agent_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    given_up = asyncio.Event()

    async def answer(_: Request) -> Reply:
        await given_up.wait()
        return sample_status()

    async with served(tmp_path / "control", answer):
        with pytest.raises(ControlError, match="control: no reply within 0 s") as caught:
            await asyncio.to_thread(ask, tmp_path / "control", 0.05)
        given_up.set()
    assert caught.value.hint.startswith("is the agent stopped")


def test_no_agent_is_there(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="control: No such file or directory"):
        ask(tmp_path / "control")
