"""All nodes lose their power at once: what was in memory is gone, the cluster is not."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.cluster.operated import Operated, operated
from tests.cluster.trio import DEADLINE_S, NAMES, is_text, say

pytestmark = pytest.mark.nodes


async def power_cut(cluster: Operated) -> None:
    """Every process of every node is killed, and every node boots."""
    nodes = cluster.machines.nodes
    for name in NAMES:
        nodes[name].kill()
    for name in NAMES:
        cluster.daemons[name].stop(signal.SIGKILL)
        await asyncio.to_thread(nodes[name].boot)
    for name in NAMES:
        cluster.start(name)


async def programs(cluster: Operated) -> list[dict[str, Any]]:
    """What `kagemusha list` shows, as soon as there is a leader to ask."""
    async with asyncio.timeout(DEADLINE_S):
        while (await cluster.type("list"))[0] != 0:
            await asyncio.sleep(0.2)
    found: list[dict[str, Any]] = await cluster.found("list")
    return found


async def test_a_power_cut_starts_programs_anew_and_says_so() -> None:
    async with operated() as cluster:
        await cluster.found("create", "redis", cluster.program)
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        connection.close()

        await power_cut(cluster)
        await programs(cluster)
        program = await cluster.mirrored()
        said = [one["text"] for one in await cluster.found("history", "redis")]
        # The last node may have taken over when it was the last: then it is not the second token.
        assert program["last_promotion"]["checkpoint"] is None, "\n".join(said)
        connection = cluster.connect()
        assert say(connection, "GET", "colour") == b"$-1\r\n"
        connection.close()
        assert any(f"starts anew under token {program['token']}: no mirror: " in text for text in said), said


async def test_a_shutdown_and_a_startup_of_the_whole_cluster() -> None:
    async with operated() as cluster:
        await cluster.found("create", "redis", cluster.program)
        code, _, err = await cluster.type("shutdown", "--yes")
        assert code == 0, err
        assert err.splitlines()[0] == "redis has ended"
        [program] = await programs(cluster)
        assert program["shut_down"]

        await power_cut(cluster)
        [program] = await programs(cluster)
        # Nothing is started before a person says that all is as it should be.
        assert {one["status"] for one in program["instances"]} == {"stopped"}
        assert program["token"] == 1
        code, _, err = await cluster.type("startup")
        assert (code, err) == (0, "started: redis\n")
        program = await cluster.mirrored()
        assert (program["token"], program["shut_down"]) == (2, False)
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()
