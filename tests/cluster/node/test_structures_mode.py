"""Structures mode on three real nodes: the program is killed, its node dies, it is moved; its table is always there."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cluster.warm_trio import WarmTrio, warm_trio

pytestmark = pytest.mark.nodes


HEALTH = """
[[health]]
kind = "exchange"
port = 7300
send = "ROLE\\n"
expect = "primary"
interval_ms = 300
timeout_ms = 200
fall = 2
"""
"""A mirror would not answer so: it is not asked."""


async def primary_of(cluster: WarmTrio) -> str:
    """Who serves, when it is mirrored everywhere."""
    view = await cluster.served()
    return str(view["programs"]["warm"]["primary"])


async def test_a_program_goes_on_after_a_kill_the_death_of_a_node_and_a_switchover() -> None:
    async with warm_trio(more=HEALTH) as cluster:
        assert await cluster.ask("SET", "1", "one") == "OK 2"

        # The program is killed; where it was, it comes back as a mirror.
        os.kill(await cluster.pid("a"), signal.SIGKILL)
        assert await cluster.ask("GET", "1") == "one"
        second = await primary_of(cluster)
        assert second != "a"
        assert await cluster.ask("SET", "2", "two") == "OK 2"

        # A person moves it.
        third = next(name for name in ("b", "c") if name != second)
        view = await cluster.view()
        assert view is not None
        leader = cluster.daemons[view["leader"]]
        switched = await leader.ask(do="switch", id="move", instance=f"warm@{third}")
        assert switched["ok"], switched
        assert await cluster.ask("GET", "2") == "two"
        assert await primary_of(cluster) == third
        assert await cluster.ask("SET", "3", "three") == "OK 2"

        # Its node dies.
        cluster.machines.nodes[third].kill()
        dead = cluster.daemons[third]
        assert dead.process is not None
        dead.process.wait()
        dead.process = None
        assert [await cluster.ask("GET", name) for name in ("1", "2", "3")] == ["one", "two", "three"]
        assert await primary_of(cluster) != third
