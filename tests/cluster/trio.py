"""Three nodes in namespaces of their own, a daemon on each, and a redis that they keep alive."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import ADDRESS, CHECKOUT, Directory, Machines, Node, clear_crashed_runs, new_run_id
from kagemusha.demo.resp import bulk, command
from kagemusha.demo.story import PORT, TAKEOVERS_MAX, Story, program_toml
from tests.command_lines import command_lines
from transport.pki import Authority

NAMES = ("a", "b", "c")
DEADLINE_S = 60.0


class Daemon:
    """The daemon of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.log = node.directory.logs / f"daemon-{node.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def words(self) -> list[str]:
        """What is started."""
        return [sys.executable, "-m", "tests.cluster.driven_node", str(self.node.directory.node / "node.toml")]

    def start(self) -> None:
        """Start it; it may not answer yet."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.node.command(*self.words()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                start_new_session=True,
            )

    def stop(self, number: int) -> None:
        """End it by a signal."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(DEADLINE_S)
            self.process = None

    async def ask(self, **question: object) -> Any:
        """One question; None while nobody answers."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.node.own / "run" / "driver")
            try:
                writer.write(json.dumps(question).encode() + b"\n")
                line = await reader.readline()
            finally:
                # Who asks may be told to stop while nobody answers.
                writer.close()
            await writer.wait_closed()
        except OSError:
            return None
        return json.loads(line) if line else None


class Trio:
    """The cluster. program_id, port: of the program that it keeps alive."""

    program_id = "redis"
    port = PORT

    def __init__(self, directory: Directory, machines: Machines, more: str = "", takeovers_max: int = 0) -> None:
        """more: is added to the program's file. takeovers_max: stands in it, 0: as in the demo's."""
        self.directory = directory
        self.machines = machines
        self._more = more
        self._takeovers_max = takeovers_max or TAKEOVERS_MAX
        self.daemons = {name: Daemon(node) for name, node in machines.nodes.items()}
        self._furnish()

    def _furnish(self) -> None:
        authority = Authority.create("trio")
        nodes = "".join(
            f'[[nodes]]\nid = "{name}"\naddress = "{node.address}:7400"\nraft = "{node.address}:7401"\n'
            f'admin = "{node.address}:7402"\n'
            for name, node in self.machines.nodes.items()
        )
        here = self.directory.node
        for name, node in self.machines.nodes.items():
            authority.issue(name).save(node.own / "pki")
            (node.own / "program.toml").write_text(self._program_toml())
            (node.own / "node.toml").write_text(
                f'[node]\nid = "{name}"\ndata = "{here}/data"\nrun = "{here}/run"\npki = "{here}/pki"\n'
                f'[cluster]\nid = "kgm-{self.directory.run_id.replace("_", "-")}"\n{nodes}'
            )

    def _program_toml(self) -> str:
        text = program_toml(Story(), self.directory.data)
        return text.replace(f"max_takeovers = {TAKEOVERS_MAX}", f"max_takeovers = {self._takeovers_max}") + self._more

    @property
    def program(self) -> str:
        """The program's file, as every node sees it."""
        return str(self.directory.node / "program.toml")

    async def view(self) -> dict[str, Any] | None:
        """What the leader's node knows; None while there is no leader."""
        for daemon in self.daemons.values():
            view = await daemon.ask(do="view")
            if view is not None and view["leads"]:
                return {**view, "leader": daemon.node.name}
        return None

    async def until(self, is_so: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until the leader's view is so."""
        view: dict[str, Any] | None = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while (view := await self.view()) is None or not is_so(view):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what}: {view}; logs in {self.directory.logs}") from None
        return view

    async def ended(self, pid: int) -> None:
        """Wait until a process is gone: it may be a zombie for as long as its parent takes to hear of its end."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while Path(f"/proc/{pid}").exists():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"process {pid} lives on: {Path(f'/proc/{pid}/status').read_text()}") from None

    async def served(self) -> dict[str, Any]:
        """Wait until the program is served and every other node that is there mirrors it, as their agents say."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while (view := await self._settled()) is None:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not served and mirrored: {await self.view()}; {self.directory.logs}") from None
        return view

    async def caught_up(self, view: dict[str, Any]) -> None:
        """Wait until every mirror holds a checkpoint that was begun from now on."""
        primary, ask = view["programs"][self.program_id]["primary"], self.daemons[view["leader"]].ask
        wanted: int | None = None
        async with asyncio.timeout(DEADLINE_S):
            while True:
                seen = await ask(do="look", node=primary, program=self.program_id)
                # The next one may be under way.
                wanted = seen["version"]["number"] + 2 if wanted is None else wanted
                if all(one["version"]["number"] >= wanted for one in seen["mirrors"]):
                    return
                await asyncio.sleep(0.02)

    async def _settled(self) -> dict[str, Any] | None:
        view = await self.view()
        entry = view["programs"].get(self.program_id) if view is not None else None
        if view is None or entry is None:
            return None
        there = [name for name, daemon in self.daemons.items() if daemon.process is not None]
        status = {one["node"]: one["status"] for one in entry["instances"]}
        seen = await self.daemons[view["leader"]].ask(do="look", node=entry["primary"], program=self.program_id)
        if seen is None or "error" in seen or seen["token"] != entry["token"]:
            return None
        following = {one["instance"] for one in seen["mirrors"] if one["state"] == "following"}
        others = {f"{self.program_id}@{name}" for name in there if name != entry["primary"]}
        return view if following >= others and all(status[name] == "mirrored" for name in there) else None

    def pid_of_redis(self, node: str) -> int:
        """The process on this node, as this process sees it."""
        for pid, words in command_lines(self.machines.nodes[node]):
            with suppress(OSError):  # it has no executable: it has ended, or is not what it is to become
                if any(b"redis-server" in word for word in words) and Path(f"/proc/{pid}/exe").readlink().name:
                    return pid
        raise AssertionError(f"there is no redis on {node}")

    def connect(self, timeout_s: float = DEADLINE_S) -> socket.socket:
        """A client's connection to the program's address."""
        with open(self.machines.client.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
            connection = socket.create_connection((ADDRESS, self.port), timeout=timeout_s)
        return connection


def say(connection: socket.socket, *words: str) -> bytes:
    """One command to redis, and its whole, short reply."""
    connection.sendall(command(*(word.encode() for word in words)))
    return connection.recv(1 << 16)


def is_text(reply: bytes, text: str) -> bool:
    """Whether the reply is this text."""
    return reply == bulk(text.encode())


AnyTrio = TypeVar("AnyTrio", bound=Trio)


@asynccontextmanager
async def on_three_machines(make: Callable[[Directory, Machines], AnyTrio]) -> AsyncIterator[AnyTrio]:
    """The cluster that `make` makes of machines for three nodes. In the end nothing is left of it but, after an error,
    the logs."""
    clear_crashed_runs()
    directory = Directory(new_run_id())
    keep = True
    try:
        machines = Machines(directory, NAMES)
        try:
            cluster = make(directory, machines)
            yield cluster
            keep = False
        finally:
            machines.close()
            for daemon in cluster.daemons.values():
                if daemon.process is not None:
                    daemon.process.wait(DEADLINE_S)
    finally:
        directory.close(keep=keep)


@asynccontextmanager
async def trio(
    more: str = "", takeovers_max: int = 0, furnish: Callable[[Trio], None] = lambda _: None
) -> AsyncIterator[Trio]:
    """A cluster whose redis runs on a and is mirrored on b and c. more, takeovers_max: see `Trio`. furnish: changes
    what stands in the files of its nodes, before anything is started."""
    async with on_three_machines(lambda directory, machines: Trio(directory, machines, more, takeovers_max)) as cluster:
        furnish(cluster)
        for daemon in cluster.daemons.values():
            daemon.start()
        await cluster.until(lambda view: view["nodes"] == list(NAMES), "all nodes are known")
        created = await cluster.daemons["b"].ask(do="create", file=cluster.program, nodes=NAMES)
        assert created == {"value": "redis"}, created
        await cluster.served()
        yield cluster
