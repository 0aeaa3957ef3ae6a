"""Two real agents, two real instances of a program: its table is on the other node when it is needed there."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.agent.warm.two_agents import Pair, lives, two_agents
from transport import control
from transport.control import Exited


def start_ticks(pair: Pair, node: str, pid: int) -> int:
    """When a process started, by the clocks of its node."""
    command = pair.machines.nodes[node].command("cat", f"/proc/{pid}/stat")
    return int(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.rpartition(")")[2].split()[19]
    )


async def mirrored_pair(pair: Pair) -> None:
    await pair.launch("a")
    await pair.follow("b", "a")
    await pair.mirrored("b")
    await pair.until("a", lambda status: status.status == "mirrored", "a sees no mirror")


async def test_a_killed_program_goes_on_where_it_was() -> None:
    async with two_agents() as pair:
        await mirrored_pair(pair)
        client = await pair.connect()
        assert client.ask("SET", "colour", "vermilion") == "OK 1"
        for number in range(100):
            assert client.ask("PUT", str(number), "x") == "OK"
        assert client.ask("SET", "last", "word") == "OK 1"
        status = await pair.agents["a"].status()
        assert status.role == "primary"
        assert status.staleness_ms < 1000
        os.kill(status.pid, signal.SIGKILL)
        exited = await pair.heard("a", Exited)
        assert isinstance(exited, Exited)
        assert exited.fenced
        assert exited.holders == ("warm@b",)
        await pair.activate("b")
        again = await pair.connect()
        assert again.ask("GET", "colour") == "vermilion"
        assert again.ask("GET", "last") == "word"
        assert again.ask("COUNT") == "102"
        assert again.ask("ROLE") == "primary"
        # Nobody mirrors it now.
        assert again.ask("SET", "alone", "yes") == "OK 0"


async def test_a_mirrors_program_that_ends_is_started_again_and_gets_everything() -> None:
    # What can't be mirrored is said, and the rest goes on.
    async with two_agents(more='\n[[structures]]\npython = "nowhere:BOOK"\n') as pair:
        await mirrored_pair(pair)
        status = await pair.agents["a"].status()
        assert status.reason.startswith("book: nowhere:BOOK: nowhere can't be imported")
        client = await pair.connect()
        assert client.ask("SET", "colour", "vermilion") == "OK 1"
        pid = (await pair.agents["b"].status()).pid
        os.kill(pid, signal.SIGKILL)
        status = await pair.until("b", lambda status: status.status == "syncing", "b does not notice")
        assert status.reason.startswith("the program of this mirror ended, it was killed by SIGKILL")
        status = await pair.mirrored("b")
        assert status.pid not in (0, pid)
        assert "ended" not in status.reason
        assert client.ask("SET", "more", "yes") == "OK 1"


async def test_a_switchover_loses_nothing_and_can_be_taken_back() -> None:
    async with two_agents() as pair:
        await mirrored_pair(pair)
        client = await pair.connect()
        assert client.ask("PUT", "colour", "vermilion") == "OK"
        held = await pair.agents["a"].request(control.Switch())
        assert isinstance(held, control.Held)
        assert held.holders == ("warm@b",)
        # It was told, and has said goodbye to its clients.
        assert client.ask("ROLE") == ""
        await pair.agents["a"].carry_out(control.Resume(pair.token))
        client = await pair.connect()
        assert client.ask("GET", "colour") == "vermilion"
        assert client.ask("PUT", "colour", "ultramarine") == "OK"
        await pair.agents["a"].request(control.Switch())
        await pair.activate("b")
        await pair.agents["a"].carry_out(control.Release())
        client = await pair.connect()
        assert client.ask("GET", "colour") == "ultramarine"
        # And back, after the one that was replaced has begun anew.
        await pair.agents["a"].stop()
        await pair.start_agent("a")
        await pair.follow("a", "b")
        await pair.mirrored("a")


@pytest.mark.parametrize("role", ["primary", "mirror"])
async def test_an_agent_that_dies_leaves_a_primary_and_no_second_mirror(role: str) -> None:
    async with two_agents() as pair:
        await mirrored_pair(pair)
        client = await pair.connect()
        assert client.ask("SET", "colour", "vermilion") == "OK 1"
        node = "a" if role == "primary" else "b"
        pid = (await pair.agents[node].status()).pid
        await pair.agents[node].close()
        assert client.ask("GET", "colour") == "vermilion"
        await pair.start_agent(node)
        if role == "primary":
            await pair.agents["a"].carry_out(control.Adopt(pid, start_ticks(pair, "a", pid), pair.token))
            await pair.follow("b", "a")
        else:
            await pair.follow("b", "a")
            assert not lives(pid)
        await pair.mirrored("b")
        await pair.until("a", lambda status: status.status == "mirrored", "a sees no mirror")
        assert client.ask("SET", "more", "yes") == "OK 1"
        if role == "primary":
            # It is not this agent's child, and how it ends is known all the same.
            os.kill(pid, signal.SIGTERM)
            exited = await pair.heard("a", Exited)
            assert isinstance(exited, Exited)
            assert exited.status == signal.SIGTERM
