"""The daemon that leads is stopped: whoever is asked at that moment answers within seconds, and another one leads."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent.kernel.namespaces import in_network_namespace
from kagemusha.client import AsyncClient
from tests.cluster.operated import DESK, Operated, operated
from tests.cluster.trio import DEADLINE_S, NAMES

pytestmark = pytest.mark.nodes
ANSWER_S = 8.0
"""Asked by a follower it is a second; a client that asks the hanging node itself has to find that out by questions."""


async def leader_of(cluster: Operated) -> str:
    """Who leads."""
    nodes = (await cluster.found("topology"))["nodes"]
    return next(str(one["node"]) for one in nodes if one["leader"])


def at_the_desk(cluster: Operated, job: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a job in the network of the desk."""
    with open(cluster.machines.nodes[DESK].network.path, "rb") as namespace:
        with in_network_namespace(namespace.fileno()):
            return asyncio.run(job())


async def timed(name: str, job: Coroutine[Any, Any, Any]) -> tuple[str, float, Any]:
    """What came of it, or what was raised, after how long."""
    began_s = time.monotonic()
    try:
        found = await job
    except Exception as error:  # whatever it is, it belongs to the finding
        found = error
    return name, time.monotonic() - began_s, found


async def test_nobody_waits_for_a_leader_that_hangs() -> None:
    async with operated() as cluster:
        await cluster.found("create", "redis", cluster.program)
        leader = await leader_of(cluster)
        process = cluster.daemons[leader].process
        assert process is not None
        authority = cluster.environment["KAGEMUSHA_AUTHORITY"]

        def client(*names: str) -> AsyncClient:
            endpoints = [cluster.endpoint(name) for name in names]
            return AsyncClient(endpoints, token=cluster.tokens["admin"], authority=authority)

        async def ask() -> list[tuple[str, float, Any]]:
            first, second = (name for name in NAMES if name != leader)
            async with client(first) as one, client(second) as two, client(leader, first) as three:
                for each in (one, two, three):
                    await each.list_programs()
                os.kill(process.pid, signal.SIGSTOP)
                try:
                    found = await asyncio.gather(
                        timed("list", one.list_programs()),
                        timed("status", one.get_instance_status(f"redis@{leader}")),
                        timed("pause", two.pause_program("redis", 60)),
                        timed("drain", one.drain_node(leader)),
                        timed("list, asked of it", three.list_programs()),
                    )
                    return list(found)
                finally:
                    os.kill(process.pid, signal.SIGCONT)

        found = await asyncio.wait_for(asyncio.to_thread(at_the_desk, cluster, ask), 3 * DEADLINE_S)
        assert all(took_s < ANSWER_S and not isinstance(answer, Exception) for _, took_s, answer in found), found
        # What was sent on to it is done once, by whoever leads now.
        said = [one["text"] for one in await cluster.found("history")]
        assert len([text for text in said if text.startswith("no failover of redis")]) == 1, said
        assert len([text for text in said if text == f"no program comes to node {leader}"]) == 1, said
