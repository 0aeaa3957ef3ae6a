"""Two agents on two machines of their own, each with a warm instance of a program, and a client of it.

The test is their controller: it says who is the primary.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import ADDRESS, CHECKOUT, INTERFACE, Directory, Machines, clear_crashed_runs, new_run_id
from kagemusha.demo.pair.agents import Agent
from kagemusha.demo.process import last_line
from transport import control
from transport.control import Event, Status
from transport.pki import Authority

PORT = 7300
SERVICE = (sys.executable, "-m", "tests.agent.warm.service", str(PORT))
DEADLINE_S = 30.0


class Client:
    """A connection of a client, one line at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rw", encoding="utf-8", newline="\n")

    def ask(self, *words: str) -> str:
        """The answer; "" where the connection has ended."""
        try:
            self._lines.write(" ".join(words) + "\n")
            self._lines.flush()
            return self._lines.readline().strip()
        except OSError:
            return ""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._lines.close()
        self._connection.close()


class Pair:
    """Both nodes."""

    def __init__(self, directory: Directory, machines: Machines) -> None:
        self.directory = directory
        self.machines = machines
        self.agents: dict[str, Agent] = {}
        self.seen: dict[str, list[Event]] = {}
        self.token = 0
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start_agent(self, node: str) -> Agent:
        """A new agent on a node, at the place of the one before."""
        agent = self.agents[node] = Agent(self.machines.nodes[node], 1 + list(self.machines.nodes).index(node))
        await agent.start()
        self.seen[node] = []
        self._tasks.append(asyncio.create_task(self._listen(agent, self.seen[node])))
        return agent

    async def launch(self, node: str) -> None:
        self.token += 1
        await self.agents[node].carry_out(control.Launch(self.token))

    async def follow(self, node: str, primary: str) -> None:
        """Let a node mirror the other."""
        agent = self.agents[primary]
        message = control.Follow(agent.node.address, agent.stream_port, primary, self.token)
        await self.agents[node].carry_out(message)

    async def activate(self, node: str) -> None:
        """Let a mirror serve, from what it holds."""
        status = await self.agents[node].status()
        self.token += 1
        await self.agents[node].carry_out(control.Activate(self.token, status.version))

    async def until(self, node: str, is_so: Callable[[Status], bool], what: str) -> Status:
        """Wait until an agent's status is so."""
        status = await self.agents[node].status()
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not is_so(status):
                    await asyncio.sleep(0.02)
                    status = await self.agents[node].status()
        except TimeoutError:
            said = last_line(self.agents[node].log)
            raise AssertionError(f"{what}: {status}; {said}; logs in {self.directory.logs}") from None
        return status

    async def mirrored(self, node: str) -> Status:
        """Wait until a mirror holds everything."""
        return await self.until(node, lambda status: status.status == "mirrored", f"{node} is not mirrored")

    async def heard(self, node: str, kind: type[Event]) -> Event:
        """Wait for an event of an agent."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    found = [event for event in self.seen[node] if isinstance(event, kind)]
                    if found:
                        return found[-1]
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"{node} told of no {kind.__name__}; logs in {self.directory.logs}") from None

    async def connect(self) -> Client:
        """A client's connection to whoever serves at the address."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    self._clients.append(await asyncio.to_thread(self._connected))
                    return self._clients[-1]
                except OSError:
                    await asyncio.sleep(0.02)

    def _connected(self) -> Client:
        with open(self.machines.client.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
            return Client(socket.create_connection((ADDRESS, PORT), timeout=5.0))

    def log(self, node: str) -> str:
        """All that the present agent of a node has said."""
        return self.agents[node].log.read_text()

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        for agent in self.agents.values():
            await agent.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, agent: Agent, seen: list[Event]) -> None:
        async for event in agent.events():
            seen.append(event)


def definition(command: Sequence[str], more: str = "", interval_ms: int = 20) -> str:
    """A program.toml."""
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"]}
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in environment.items())
    return f"""\
[program]
id = "warm"
command = {json.dumps(list(command))}
environment = {{ {table} }}

[mirror]
mode = "structures"
interval_ms = {interval_ms}

[redirect]
driver = "address"
address = "{ADDRESS}/32"
interface = "{INTERFACE}"
{more}"""


@asynccontextmanager
async def two_agents(
    command: Sequence[str] = SERVICE, more: str = "", builds: Sequence[Path] = ()
) -> AsyncIterator[Pair]:
    """Agents on nodes a and b. builds: of a program, which is run there with the words of `command`; one, or two."""
    clear_crashed_runs()
    directory = Directory(new_run_id())
    keep = True
    try:
        machines = Machines(directory)
        try:
            authority = Authority.create("warm")
            for number, (name, node) in enumerate(machines.nodes.items()):
                authority.issue(name).save(node.own / "pki")
                words = list(command)
                if builds:
                    build = builds[min(number, len(builds) - 1)]
                    shutil.copy(build, node.own / build.name)
                    words.insert(0, str(directory.node / build.name))
                (node.own / "program.toml").write_text(definition(words, more))
            pair = Pair(directory, machines)
            try:
                for name in machines.nodes:
                    await pair.start_agent(name)
                yield pair
                keep = False
            finally:
                await pair.close()
        finally:
            machines.close()
    finally:
        directory.close(keep=keep)


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
