"""The client against a plain redis-server: what it reports is what was done to the server."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kagemusha.demo.client import Client
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import ADDRESS, INTERFACE, Machines, Node

SHAPE: dict[str, Any] = {"host": ADDRESS, "port": 6379, "idle": 3, "busy": 4, "anew": 2}


class Redis:
    """A redis-server at the program's address on node a."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.network.ip(f"addr add {ADDRESS}/32 dev {INTERFACE}")
        self.start()

    def start(self) -> None:
        """Start it, and return when it says that it is ready."""
        argv = self._node.command("redis-server", "--save", "", "--protected-mode", "no", "--bind", "0.0.0.0")
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/")
        assert self.process.stdout is not None
        assert any("Ready to accept connections" in line for line in self.process.stdout)

    def kill(self) -> None:
        """SIGKILL, and return when it is gone."""
        self.process.kill()
        self.process.wait(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
async def redis(machines: Machines) -> AsyncIterator[Redis]:
    redis = Redis(machines.nodes["a"])
    yield redis
    redis.kill()


@pytest.fixture
async def client(machines: Machines, redis: Redis) -> AsyncIterator[Client]:
    client = Client(machines.client, machines.directory.logs / "client.log")
    await client.start()
    yield client
    await client.close()


async def judged(client: Client, event_ns: int) -> dict[str, Any]:
    """The outcome of an event."""
    answer = await client.ask("settle", event_ns=event_ns)
    outcome: dict[str, Any] = answer["outcome"]
    return outcome


async def test_it_fills_redis(client: Client) -> None:
    answer = await client.ask("fill", host=ADDRESS, port=6379, mib=4)
    assert answer["keys"] == 4096
    assert answer["used_memory_bytes"] > 4 << 20


async def test_a_quiet_moment_is_no_event(client: Client) -> None:
    assert await client.ask("connect", **SHAPE) == {"done": "connect", "answered": 3, "of": 3}
    outcome = await judged(client, time.monotonic_ns())
    assert (outcome["writes_lost"], outcome["reset"], outcome["hung"]) == (0, 0, 0)
    assert (outcome["idle_survived"], outcome["busy_survived"]) == (3, 4)
    assert outcome["writes_acknowledged"] > 0
    assert outcome["foreign"] == outcome["silent"] == []


async def test_a_server_that_forgets_is_caught(client: Client, redis: Redis) -> None:
    await client.ask("connect", **SHAPE)
    event_ns = time.monotonic_ns()
    redis.kill()
    redis.start()
    outcome = await judged(client, event_ns)
    assert outcome["writes_lost"] == outcome["writes_acknowledged"] > 0
    assert outcome["oldest_lost_ns"] < event_ns
    assert (outcome["idle_survived"], outcome["busy_survived"], outcome["hung"]) == (0, 0, 0)
    assert outcome["reset"] >= 7
    assert outcome["foreign"] == outcome["silent"] == []


async def test_an_outage_is_a_gap_and_no_end(client: Client, machines: Machines) -> None:
    await client.ask("connect", **SHAPE)
    event_ns = time.monotonic_ns()
    machines.nodes["a"].cut()
    cut_ns = time.monotonic_ns()
    machines.nodes["a"].heal()
    outcome = await judged(client, event_ns)
    assert outcome["gap_ns"] <= time.monotonic_ns() - event_ns
    assert outcome["answered_ns"] > event_ns
    assert cut_ns > event_ns
    assert (outcome["idle_survived"], outcome["busy_survived"], outcome["reset"]) == (3, 4, 0)


async def test_silence_is_a_hang(client: Client, machines: Machines) -> None:
    await client.ask("connect", **SHAPE)
    event_ns = time.monotonic_ns()
    machines.nodes["a"].cut()
    asyncio.get_running_loop().call_later(6, machines.nodes["a"].heal)
    outcome = await judged(client, event_ns)
    assert outcome["hung"] >= 4
    assert outcome["busy_survived"] == 0
    assert outcome["silent"] == []


async def test_the_rate_is_kept(client: Client) -> None:
    await client.ask("connect", **{**SHAPE, "anew": 0})
    await client.ask("rate", per_second=400)
    answer = await client.ask("measure", seconds=1.0)
    assert 200 < answer["writes_per_second"] < 600


async def test_failures_are_one_line(client: Client, machines: Machines) -> None:
    with pytest.raises(DemoError, match="the client's dance failed: ValueError: there is no request 'dance'"):
        await client.ask("dance")
    with pytest.raises(DemoError, match=r"the client's fill failed: ConnectionRefusedError: .*"):
        await client.ask("fill", host=machines.nodes["b"].address, port=6379, mib=1, listens_s=0.1)
    await client.close()
    with pytest.raises(DemoError, match="the client died in ping") as died:
        await client.ask("ping")
    assert "client.log" in died.value.hint
