"""What hangs and must hold up nobody: a health check, the mirrors, and the daemon that leads. On three real nodes."""

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
from tests.cluster.trio import DEADLINE_S, NAMES, is_text, say
from tests.command_lines import command_lines

pytestmark = pytest.mark.nodes
FALL, INTERVAL_S, TIMEOUT_S = 3, 0.6, 0.5
CHECKED = f"interval_ms = {round(INTERVAL_S * 1000)}\ntimeout_ms = {round(TIMEOUT_S * 1000)}\nfall = {FALL}\n"
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


def checked(cluster: Operated) -> None:
    """Have the program checked by a command that writes down that it was there, and by one that may be made to hang."""
    here = cluster.directory.node
    for node in cluster.machines.nodes.values():
        (node.own / "here").write_text(f"#!/bin/sh\necho >> {here}/visits\n")
        (node.own / "may-hang").write_text(f"#!/bin/sh\ntest ! -e {here}/hang || sleep 1000\n")
        for name in ("here", "may-hang"):
            (node.own / name).chmod(0o755)
        with (node.own / "program.toml").open("a") as program:
            for name in ("here", "may-hang"):
                program.write(f'[[health]]\nkind = "exec"\ncommand = ["{here}/{name}"]\n{CHECKED}')


async def test_a_health_check_that_never_ends_mirrors_and_a_leader_that_hang_hold_up_nobody() -> None:
    async with operated() as cluster:
        checked(cluster)
        await cluster.found("create", "redis", cluster.program)
        await a_check_hangs(cluster)
        await the_mirrors_hang(cluster, await cluster.mirrored())
        await cluster.mirrored()
        await the_leader_hangs(cluster)


async def a_check_hangs(cluster: Operated) -> None:
    """On the node of the primary: it counts as failed, and the program goes on where it does not hang."""
    [program] = await cluster.found("list")
    node = cluster.machines.nodes[program["primary"]]
    connection = cluster.connect()
    assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
    visits = node.own / "visits"
    before = visits.stat().st_size
    (node.own / "hang").touch()
    began_s = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        while program["primary"] == node.name:
            # Clients and operators are answered meanwhile, as ever; a busy connection may be reset by the takeover.
            try:
                assert is_text(say(connection, "GET", "colour"), "vermilion")
            except ConnectionResetError:
                connection.close()
                connection = cluster.connect()
            [program] = await cluster.found("list")
    assert time.monotonic() - began_s > (FALL - 1) * INTERVAL_S + TIMEOUT_S
    # The other check of this program went on, as often as before.
    assert visits.stat().st_size - before >= FALL - 1
    why = f"may-hang: no answer within {TIMEOUT_S * 1000:g} ms, {FALL} times in a row"
    assert program["last_promotion"]["reason"] == why
    connection.close()
    connection = cluster.connect()
    assert is_text(say(connection, "GET", "colour"), "vermilion")
    connection.close()
    (node.own / "hang").unlink()


async def the_mirrors_hang(cluster: Operated, program: dict[str, Any]) -> None:
    """A switchover to them is refused, and clients are led back to where they were."""
    others = [node for name, node in cluster.machines.nodes.items() if name != program["primary"]]
    agents = [pid for node in others for pid, words in command_lines(node) if b"agent" in words]
    assert len(agents) == len(others)
    with cluster.connect() as connection:
        for pid in agents:
            os.kill(pid, signal.SIGSTOP)
        try:
            _, line, _ = await cluster.refused("switchover", f"redis@{others[0].name}")
        finally:
            for pid in agents:
                os.kill(pid, signal.SIGCONT)
        assert "no mirror acknowledged the last checkpoint" in line
        assert say(connection, "SET", "colour", "ochre") == b"+OK\r\n"
    with cluster.connect() as connection:
        assert is_text(say(connection, "GET", "colour"), "ochre")
    [after] = await cluster.found("list")
    assert (after["primary"], after["token"]) == (program["primary"], program["token"])


async def the_leader_hangs(cluster: Operated) -> None:
    """It is stopped: whoever is asked at that moment answers within seconds, and another one leads."""
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
    # What was sent on to it is done once, by whoever leads now; the node that was stopped hears of it, too, in time.
    drained = f"no program comes to node {leader}"
    said: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        while drained not in said or not any(text.startswith("no failover of redis") for text in said):
            said = [one["text"] for one in await cluster.found("history")]
    assert len([text for text in said if text.startswith("no failover of redis")]) == 1, said
    assert len([text for text in said if text == drained]) == 1, said
