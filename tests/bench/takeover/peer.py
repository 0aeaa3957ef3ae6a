"""What the peers have in common: a redis of their own on each node, the same clients, the same two kinds of harm."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

from kagemusha.demo.client import Client
from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Machine, Machines
from kagemusha.demo.scenario import SETTLE_S
from kagemusha.demo.story import PORT, redis_command
from tests.bench.takeover.row import One, judged
from tests.bench.takeover.stage import Load, Witnesses

PeerKind = Literal["process_killed", "node_killed"]
PEER_KINDS: Final[tuple[PeerKind, ...]] = ("process_killed", "node_killed")
READY_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.1
_WARM_UP_S: Final = 0.5


class Peer(ABC):
    """One for any number of runs: whoever failed comes back. Its methods may raise DemoError."""

    name: str
    address_moves = False
    """Whether clients find whoever serves at one address: then no two may serve there at once."""
    client_module = "kagemusha.demo.load"

    def __init__(self, display: Display, machines: Machines, load: Load) -> None:
        self.machines = machines
        self.redis: dict[str, asyncio.subprocess.Process] = {}
        self._display, self._load = display, load
        self._client = Client(machines.client, machines.directory.logs / "client.log", self.client_module)
        self._witnesses = Witnesses(machines.nodes, [machines.client])

    @abstractmethod
    async def start(self) -> None:
        """Have all servers run."""

    @abstractmethod
    async def primary(self) -> str:
        """The node whose redis serves; "" while that is not known."""

    @abstractmethod
    async def start_node(self, name: str, kind: PeerKind) -> None:
        """Start again what a run has ended on this node."""

    @abstractmethod
    async def is_whole(self) -> bool:
        """Whether everybody is ready for the next failure."""

    def address(self, primary: str) -> str:
        """Where the clients connect at first."""
        return self.machines.nodes[primary].address

    @abstractmethod
    async def tell_clients(self) -> None:
        """Tell the clients what they have to know before each run."""

    async def open(self) -> None:
        """Have everything there: servers, values, clients that write."""
        with self._display.task(f"{self.name}: servers, values, clients"):
            await self.start()
            await self.until(self.is_whole, "it is not ready")
            await self._client.start()
            host = self.address(await self.primary())
            await self.ask("fill", host=host, port=PORT, mib=self._load.memory_mib)
            counts = {"idle": self._load.idle, "busy": self._load.busy, "anew": self._load.anew}
            await self.ask("connect", host=host, port=PORT, **counts)
            await self.ask("rate", per_second=self._load.per_second)

    async def run(self, kind: PeerKind) -> One:
        """One failure of this kind, and back to all that there was."""
        await self.until(self.is_whole, "it is not ready")
        await self.tell_clients()
        await self.ask("ping")
        await self.ask("measure", seconds=_WARM_UP_S)
        source = await self.primary()
        self._witnesses.listen()
        with self._display.task(f"{self.name}: {kind} on node {source}") as task:
            event_ns = time.monotonic_ns()
            if kind == "process_killed":
                os.kill(self.redis[source].pid, signal.SIGKILL)
            else:
                self.machines.nodes[source].cut()
                await asyncio.to_thread(self.machines.nodes[source].kill)
            outcome = (await self.ask("settle", event_ns=event_ns))["outcome"]
            target = await self.primary()
            overlaps = self._witnesses.overlaps((source, target)) if self.address_moves else None
            await self.redis[source].wait()
            if kind == "node_killed":
                await asyncio.to_thread(self.machines.nodes[source].boot)
            await self.start_node(source, kind)
            await self.until(self.is_whole, f"node {source} does not come back")
            silent = [f"connection {name} has no reply since" for name in outcome["silent"]]
            # Errors that these servers answer while they change roles are no fault of the measurement.
            one = judged(outcome, overlaps=overlaps, taken_over=target != source, problems=tuple(silent))
            task.result = f"{one.gap_ms:.1f} ms"
        return one

    async def close(self) -> None:
        """Forget the processes; after the machines are gone."""
        self._witnesses.close()
        await self._client.close()
        for process in self.redis.values():
            await process.wait()

    # For those who build one

    async def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Have the clients do something."""
        return await self._client.ask(do, deadline_s=SETTLE_S, **arguments)

    async def start_redis(self, name: str, *more: str) -> None:
        """Start redis on a node, as kagemusha's program is started. more: what it is told besides."""
        words = (*redis_command(), "--dir", str(self.machines.directory.data), *more)
        self.redis[name] = await self.start_server(name, "redis", *words)

    async def start_server(self, node: str, log: str, *words: str) -> asyncio.subprocess.Process:
        """Start a process on a node."""
        directory = self.machines.directory
        with (directory.logs / f"{log}-{node}.log").open("ab") as file:
            return await asyncio.create_subprocess_exec(
                *self.machines.nodes[node].command(*words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd="/",
                start_new_session=True,
            )

    async def until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        """Look again and again."""
        end_s = time.monotonic() + READY_S
        while not await is_so():
            if time.monotonic() > end_s:
                raise DemoError(f"{self.name}: {what} within {READY_S:g} s", hint=f"see {self.machines.directory.logs}")
            await asyncio.sleep(_LOOK_AGAIN_S)


async def redis_says(machine: Machine, host: str, port: int, *words: str) -> str:
    """What a server answers to a command that is typed on this machine; "" when it does not."""
    process = await asyncio.create_subprocess_exec(
        *machine.command("timeout", "1", "redis-cli", "-h", host, "-p", str(port), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return "" if process.returncode else out.decode()


def fields(answer: str, separator: str) -> dict[str, str]:
    """An answer of names and values: on alternating lines, or separated on each."""
    if separator == "\n":
        lines: Sequence[str] = answer.splitlines()
        return dict(zip(lines[::2], lines[1::2], strict=False))
    return dict(line.partition(separator)[::2] for line in answer.splitlines() if separator in line)
