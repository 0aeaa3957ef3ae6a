"""Three real nodes and a real redis: the leader decides, and the program goes on."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

import pytest

from tests.cluster.trio import Trio, is_text, say, trio
from tests.command_lines import command_lines

pytestmark = pytest.mark.nodes


def timeline(view: dict[str, Any], token: int) -> dict[str, int]:
    """The leader's time line of the takeover that led to this token."""
    return next(parts for noted, _, parts in view["notes"] if noted == token and parts)


def pids_of_agents(cluster: Trio, node: str) -> list[int]:
    """The agents of a node; each is the leader of its session, what it has forked is not."""
    found = []
    for pid, words in command_lines(cluster.machines.nodes[node]):
        with suppress(ProcessLookupError):
            if b"kagemusha" in words and b"agent" in words and os.getsid(pid) == pid:
                found.append(pid)
    return found


async def test_a_program_that_is_killed_goes_on_and_a_person_may_move_it() -> None:
    async with trio() as cluster:
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        os.kill(cluster.pid_of_redis("a"), signal.SIGKILL)
        # The same connection: a last gasp loses nothing.
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        await cluster.until(lambda view: view["programs"]["redis"]["primary"] != "a", "another node serves")
        view = await cluster.served()
        assert view["programs"]["redis"]["token"] == 2
        parts = timeline(view, 2)
        assert {"detect_us", "fence_us", "agree_us", "activate_us"} <= parts.keys()

        leader = cluster.daemons[view["leader"]]
        answer = await leader.ask(do="switch", id="switch-1", instance="redis@a")
        assert answer["ok"], answer
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        view = await cluster.served()
        assert view["programs"]["redis"]["primary"] == "a"
        assert view["programs"]["redis"]["token"] == 3

        # A daemon that ends in order comes back to what it left: nobody else took over meanwhile.
        pid = cluster.pid_of_redis("a")
        cluster.daemons["a"].stop(signal.SIGTERM)
        cluster.daemons["a"].start()
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        view = await cluster.served()
        assert view["programs"]["redis"]["token"] == 3
        assert cluster.pid_of_redis("a") == pid

        # So does an agent that is told to end, for an upgrade: its successor has the same process.
        [agent] = pids_of_agents(cluster, "a")
        os.kill(agent, signal.SIGTERM)
        await cluster.until(lambda _: agent not in pids_of_agents(cluster, "a"), "the agent ends")
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        view = await cluster.served()
        assert view["programs"]["redis"]["token"] == 3
        assert cluster.pid_of_redis("a") == pid
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()


async def test_nodes_and_daemons_come_and_go() -> None:
    async with trio() as cluster:
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        # The daemon of the primary's node is killed and comes back: it goes on there, or another node has it by then.
        cluster.daemons["a"].stop(signal.SIGKILL)
        cluster.daemons["a"].start()
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()
        view = await cluster.served()

        # The power of the primary's node goes, whoever leads.
        primary, token = view["programs"]["redis"]["primary"], view["programs"]["redis"]["token"]
        cluster.machines.nodes[primary].kill()
        cluster.daemons[primary].stop(signal.SIGKILL)
        view = await cluster.until(lambda view: view["programs"]["redis"]["token"] > token, "another node serves")
        await cluster.served()
        connection = cluster.connect()
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()
