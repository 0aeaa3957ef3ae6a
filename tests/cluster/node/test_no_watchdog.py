"""A node whose watchdog dies and does not come back, on three real nodes: it is heard, and may serve nobody."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cluster.trio import Trio, is_text, say, trio
from tests.command_lines import command_lines

pytestmark = pytest.mark.nodes


def _watchdog(cluster: Trio, node: str) -> int:
    [pid] = {pid for pid, words in command_lines(cluster.machines.nodes[node]) if b"watchdog" in words}
    return pid


async def test_a_program_goes_on_elsewhere() -> None:
    async with trio() as cluster:
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        await cluster.caught_up(await cluster.served())
        assert await cluster.daemons["a"].ask(do="forbid watchdogs") == {}
        os.kill(_watchdog(cluster, "a"), signal.SIGKILL)
        view = await cluster.until(lambda view: view["programs"]["redis"]["token"] == 2, "a mirror goes on")
        redis = view["programs"]["redis"]
        assert redis["primary"] in ("b", "c")
        assert redis["last_promotion"]["reason"] == "node a does not ask for the program's lease any more"
        # The client has said nothing meanwhile: its connection is as it believes it to be.
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()
