"""Three real nodes with real keepalived on each: a program's address goes where the leader decides, and stays there."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.kernel.namespaces import in_network_namespace
from cluster.fencing.addresses import Addresses
from kagemusha.demo.nodes import ADDRESS, Node
from tests.cluster.redirect.keepalived import COMMAND, DEADLINE_S, until
from tests.cluster.trio import Trio, is_text, say, trio

pytestmark = pytest.mark.nodes

ROUTER_ID = 51


class Carried:
    """Three nodes with keepalived, which may be looked at from outside."""

    def __init__(self) -> None:
        self.cluster: Trio
        self.keepalived: dict[str, subprocess.Popen[bytes]] = {}
        self._addresses: dict[str, Addresses] = {}

    def furnish(self, cluster: Trio) -> None:
        """Before the daemons start: their settings, and keepalived."""
        self.cluster = cluster
        here = cluster.directory.node
        for name, node in cluster.machines.nodes.items():
            program = node.own / "program.toml"
            wish = f'driver = "keepalived"\nrouter_id = {ROUTER_ID}'
            program.write_text(program.read_text().replace('driver = "address"', wish))
            with (node.own / "node.toml").open("a") as settings:
                settings.write(
                    f'[keepalived]\nconfig = "{here}/keepalived.conf"\ndirectory = "{here}/keepalived"\n'
                    f'pid_file = "{here}/keepalived.pid"\n'
                )
            (node.own / "keepalived").mkdir()
            (node.own / "keepalived.conf").write_text(f"include {here}/keepalived/*.conf\n")
            self.start(name)
            with open(node.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
                self._addresses[name] = Addresses()

    def start(self, name: str) -> None:
        """Start keepalived on a node."""
        node = self.cluster.machines.nodes[name]
        here = self.cluster.directory.node
        words = ["stdbuf", "-oL", COMMAND, "-n", "-l", "-D", "-P", "-f", f"{here}/keepalived.conf"]
        words += ["-p", f"{here}/keepalived.pid", "-r", f"{here}/vrrp.pid"]
        with self.log(node).open("ab") as log:
            self.keepalived[name] = subprocess.Popen(
                node.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def log(self, node: Node) -> Path:
        """What keepalived says on a node."""
        return node.directory.logs / f"keepalived-{node.name}.log"

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
        log = self.log(self.cluster.machines.nodes[node])
        await until(lambda: states(log)[-1:] == ["MASTER"], f"keepalived of {node}: {states(log)}")

    def close(self) -> None:
        """Close what looks; the nodes end their processes themselves."""
        for addresses in self._addresses.values():
            addresses.close()
        for process in self.keepalived.values():
            process.wait(DEADLINE_S)


def states(log: Path) -> list[str]:
    """The states that keepalived has gone through."""
    lines = [line for line in log.read_text().splitlines() if "(kagemusha-redis) " in line and "STATE" in line.upper()]
    return [line.upper().split("ENTERING ")[1].split()[0] for line in lines if "ENTERING " in line.upper()]


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
        scene.keepalived["a"].send_signal(signal.SIGKILL)
        scene.keepalived["a"].wait(DEADLINE_S)
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        for name in ("keepalived.pid", "vrrp.pid"):
            (cluster.machines.nodes["a"].own / name).unlink(missing_ok=True)
        scene.start("a")
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
