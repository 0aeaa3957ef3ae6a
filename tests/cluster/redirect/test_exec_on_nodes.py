"""Three real nodes, and a command that is to lead the clients and never ends: the program serves on, and it is said."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.cluster.trio import DEADLINE_S, Trio, is_text, say, trio

pytestmark = pytest.mark.nodes
TIMEOUT_MS = 300


def hangs(cluster: Trio) -> None:
    """Before the daemons start: the address as usual, and a command besides."""
    here = cluster.directory.node
    wish = f'driver = "exec"\nclaim = ["{here}/hang"]\nrelease = ["{here}/hang"]\ntimeout_ms = {TIMEOUT_MS}'
    for node in cluster.machines.nodes.values():
        program = node.own / "program.toml"
        program.write_text(program.read_text().replace('driver = "address"', wish))
        command = node.own / "hang"
        command.write_text("#!/bin/sh\nsleep 1000 & wait\n")
        command.chmod(0o755)


async def trouble(cluster: Trio, node: str) -> str:
    """What is said of the instance on that node, as soon as anything is."""
    async with asyncio.timeout(DEADLINE_S):
        while (
            not (seen := await cluster.daemons[node].ask(do="look", node=node, program="redis")) or not seen["reason"]
        ):
            await asyncio.sleep(0.05)
    said: str = seen["reason"]
    return said


async def test_a_command_that_hangs_holds_up_no_takeover() -> None:
    async with trio(furnish=hangs) as cluster:
        late = f"redis: claim {cluster.directory.node}/hang: has not ended within {TIMEOUT_MS} ms"
        assert await trouble(cluster, "a") == late
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        os.kill(cluster.pid_of_redis("a"), signal.SIGKILL)
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        view = await cluster.served()
        primary = view["programs"]["redis"]["primary"]
        assert (primary != "a", view["programs"]["redis"]["token"]) == (True, 2)
        assert await trouble(cluster, primary) == late
        # It does not travel on for that.
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()
        assert (await cluster.served())["programs"]["redis"]["token"] == 2
