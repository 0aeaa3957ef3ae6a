"""Three real nodes with real keepalived on each: a program's address goes where the leader decides, and stays there."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.kernel.namespaces import in_network_namespace
from cluster.fencing.addresses import Addresses
from kagemusha.demo.nodes import ADDRESS
from tests.cluster.redirect.keepalived import DEADLINE_S, until
from tests.cluster.redirect.on_nodes import KeepalivedOnNodes, by_keepalived
from tests.cluster.trio import Trio, is_text, say, trio

pytestmark = pytest.mark.nodes


class Carried:
    """Three nodes with keepalived, which may be looked at from outside."""

    def __init__(self) -> None:
        self.cluster: Trio
        self.keepalived = KeepalivedOnNodes({})
        self._addresses: dict[str, Addresses] = {}

    def furnish(self, cluster: Trio) -> None:
        """Before the daemons start: their settings, and keepalived."""
        self.cluster = cluster
        self.keepalived = KeepalivedOnNodes(cluster.machines.nodes)
        for name, node in cluster.machines.nodes.items():
            program = node.own / "program.toml"
            program.write_text(by_keepalived(program.read_text()))
            with (node.own / "node.toml").open("a") as settings:
                settings.write(self.keepalived.settings(name))
            self.keepalived.furnish(name)
            self.keepalived.start(name)
            with open(node.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
                self._addresses[name] = Addresses()

    def holders(self) -> set[str]:
        """The nodes that have the address now."""
        return {name for name, addresses in self._addresses.items() if addresses.has(f"{ADDRESS}/32")}

    def allowed(self) -> set[str]:
        """The nodes whose keepalived may have it."""
        nodes = self.cluster.machines.nodes
        files = {name: node.own / "run" / "redis.track" for name, node in nodes.items()}
        return {name for name, file in files.items() if file.exists() and file.read_text().strip() == "1"}

    async def until_carried_by(self, node: str) -> None:
        """Wait until the address is on this node alone, and its keepalived carries it."""
        what = f"the address is not on {node} alone"
        await until(lambda: self.holders() == {node} and self.allowed() == {node}, what)
        await until(lambda: self._states(node)[-1:] == ["MASTER"], f"keepalived of {node}: {self._states(node)}")

    def _states(self, node: str) -> list[str]:
        return self.keepalived.states(node, "kagemusha-redis")

    def close(self) -> None:
        """Close what looks; the nodes end their processes themselves."""
        for addresses in self._addresses.values():
            addresses.close()
        self.keepalived.close()


@asynccontextmanager
async def carried() -> AsyncIterator[Carried]:
    """Redis runs on a, and keepalived carries its address there."""
    scene = Carried()
    try:
        async with trio(furnish=scene.furnish):
            await scene.until_carried_by("a")
            yield scene
    finally:
        scene.close()


async def test_a_takeover_and_a_switchover_take_keepalived_along() -> None:
    async with carried() as scene:
        cluster = scene.cluster
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"

        os.kill(cluster.pid_of_redis("a"), signal.SIGKILL)
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        view = await cluster.served()
        primary = view["programs"]["redis"]["primary"]
        assert primary != "a"
        await scene.until_carried_by(primary)

        answer = await cluster.daemons[view["leader"]].ask(do="switch", id="switch-1", instance="redis@a")
        assert answer["ok"], answer
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        await scene.until_carried_by("a")

        # keepalived is killed where the program serves: the address is there all the same, or again.
        killed = scene.keepalived.processes["a"]
        killed.send_signal(signal.SIGKILL)
        killed.wait(DEADLINE_S)
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        scene.keepalived.start("a")
        await scene.until_carried_by("a")
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()


async def test_a_daemon_that_hangs_is_no_obstacle_and_neither_is_a_keepalived_that_does() -> None:
    async with carried() as scene:
        cluster = scene.cluster
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        connection.close()
        pids = scene.cluster.machines.nodes["a"].network.processes()
        keepalived = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == "keepalived"]
        hanging = cluster.daemons.pop("a")  # Who asked it would wait for it.
        daemon = hanging.process
        assert daemon is not None
        assert keepalived
        for pid in (*keepalived, daemon.pid):
            os.kill(pid, signal.SIGSTOP)
        # Nobody on node a does anything but its watchdog, and that the address is gone there is its work.
        await until(lambda: "a" not in scene.holders() | scene.allowed(), "the watchdog does not cut it off")
        await cluster.until(lambda view: view["programs"]["redis"]["primary"] != "a", "another node serves")
        connection = cluster.connect()
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        for pid in (*keepalived, daemon.pid):
            os.kill(pid, signal.SIGCONT)
        cluster.daemons["a"] = hanging
        view = await cluster.served()
        await scene.until_carried_by(view["programs"]["redis"]["primary"])
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()
