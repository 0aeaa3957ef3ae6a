"""The story: each of the two programs is killed, then the node that it serves on; others go on with its structures."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kagemusha.demo.client import Client
from kagemusha.demo.display import MIB, Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Machines
from kagemusha.demo.story import FIRST_NODE
from kagemusha.demo.structures.group import CLUSTER_S, Group
from kagemusha.demo.structures.programs import PROGRAMS, Program, install
from kagemusha.demo.structures.report import NS_PER_MS, Kind, Report, Takeover

NODES = ("a", "b", "c")
TAKEOVER_S = 20.0
SETTLE_S = 40.0
_MODULE = "kagemusha.demo.structures.load"
_ASK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Story:
    """The options of a run. interpreters: node -> the Python of the exchange there, where it is another one.
    fill_share: of the updates that a program is usually given at the beginning. nodes_die: whether nodes are killed,
    too, after the programs."""

    interpreters: dict[str, str]
    interval_ms: int = 50
    clients: int = 10
    per_second: int = 500
    measure_s: float = 3.0
    fill_share: float = 1.0
    nodes_die: bool = True


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a program just before an event."""

    program: Program
    source: str
    token: int
    pid: int
    staleness_ms: float
    polled_ns: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What mirroring a program costs under the load of its clients."""

    bytes_per_s: float
    full_bytes: int


class Scenario:
    """Plays the story on the machines and fills the report."""

    def __init__(self, story: Story, display: Display, machines: Machines) -> None:
        self.report = Report()
        self._story = story
        self._display = display
        self._machines = machines
        self._group = Group(machines)
        logs = machines.directory.logs
        self._clients = {one.id: Client(machines.client, logs / f"clients-{one.id}.log", _MODULE) for one in PROGRAMS}
        self._costs: dict[str, Cost] = {}

    async def play(self) -> Report:
        """The whole story. DemoError at the first thing that does not happen as it must."""
        self._install()
        with self._display.task("three daemons, a leader among them") as task:
            task.result = f"node {await self._group.start(one.id for one in PROGRAMS)} leads"
        for program in PROGRAMS:
            await self._begin(program)
        await self._wait_for_mirrors(PROGRAMS, "each program's structures in two warm instances")
        for program in PROGRAMS:
            await self._measure(program)
        for program in PROGRAMS:
            await self._kill_program(program)
        if self._story.nodes_die:
            await self._kill_nodes()
        return self.report

    async def close(self) -> None:
        """Forget the processes, which are dead by now or die here."""
        for client in self._clients.values():
            await client.close()
        await self._group.close()

    # Scene 1: both programs under the cluster, and their clients

    def _install(self) -> None:
        story = self._story
        with self._display.task("the exchange; the session service, compiled in another way on each node") as task:
            flags = [
                f"{name}: {install(node, story.interval_ms, story.interpreters.get(name, ''))}"
                for name, node in self._machines.nodes.items()
            ]
            task.result = "; ".join(flags)

    async def _begin(self, program: Program) -> None:
        story, client, operator = self._story, self._clients[program.id], self._group.of[program.id]
        with self._display.task(f"{program.id}, {program.title}, on node {FIRST_NODE}") as task:
            await operator.create(self._machines.directory.node / f"{program.id}.toml", NODES)

            async def serves() -> bool:
                return bool((await operator.status(FIRST_NODE))["pid"])

            await self._group.until(serves, CLUSTER_S, f"{program.id} does not come up")
            await client.start()
            target: dict[str, Any] = {"program": program.id, "host": program.address, "port": program.port}
            await client.ask("fill", deadline_s=CLUSTER_S, updates=int(program.fill * story.fill_share), **target)
            await client.ask("connect", clients=story.clients, per_second=story.per_second, **target)
            task.result = f"{story.clients} clients, {story.per_second} updates/s"

    async def _wait_for_mirrors(self, programs: Sequence[Program], title: str) -> None:
        """Wait until every other node mirrors each program, as its agent and the leader say."""
        with self._display.task(title) as task:
            for one in programs:
                task.now(one.id)
                operator = self._group.of[one.id]

                async def mirrored(operator: Any = operator) -> bool:
                    program = await operator.program()
                    status = await operator.status(program["primary"])
                    following = sum(one["state"] == "following" for one in status["mirrors"])
                    known = all(one["status"] == "mirrored" for one in program["instances"])
                    await asyncio.sleep(_ASK_AGAIN_S)
                    return known and following == len(NODES) - 1 and status["token"] == program["token"]

                await self._group.until(mirrored, CLUSTER_S, f"not every mirror of {one.id} is ready")

    async def _measure(self, program: Program) -> None:
        """What mirroring costs while the clients work."""
        story, client = self._story, self._clients[program.id]
        with self._display.task(f"{program.id} under the load of its clients") as task:
            before = await self._status(program)
            began_s = time.monotonic()
            deadline_s = story.measure_s + SETTLE_S
            rate = (await client.ask("measure", deadline_s=deadline_s, seconds=story.measure_s))["updates_per_second"]
            after = await self._status(program)
            sent = (after["streamed_bytes"] - before["streamed_bytes"]) / (time.monotonic() - began_s)
            held = await self._group.of[program.id].structures(after["instance"].partition("@")[2])
            cost = self._costs[program.id] = Cost(sent, sum(one["size_bytes"] for one in held))
            sizes = f"{sent / 1024:,.0f} KiB/s to the mirrors, a whole copy {cost.full_bytes / MIB:,.2f} MiB"
            task.result = f"{rate:,.0f} updates/s; {sizes}"

    async def _status(self, program: Program) -> dict[str, Any]:
        operator = self._group.of[program.id]
        return await operator.status((await operator.program())["primary"])

    # Scene 2: harm

    async def _kill_program(self, program: Program) -> None:
        before = await self._poll(program)
        event_ns = time.monotonic_ns()
        os.kill(before.pid, signal.SIGKILL)
        await self._judge("process_killed", before, event_ns)
        if self._story.nodes_die:
            await self._wait_for_mirrors([program], f"{program.id} has two mirrors again")

    async def _kill_nodes(self) -> None:
        """Kill the nodes on which the programs serve, one after the other, until each program has seen that."""
        waiting = list(PROGRAMS)
        while waiting:
            source = (await self._poll(waiting[0])).source
            seen = [before for one in PROGRAMS if (before := await self._poll(one)).source == source]
            node = self._machines.nodes[source]
            event_ns = time.monotonic_ns()
            node.cut()
            # In a thread: that the agent is gone must be noticed while the last of the processes still dies.
            await asyncio.to_thread(node.kill)
            for before in seen:
                await self._judge("node_killed", before, event_ns)
            waiting = [one for one in waiting if one not in [before.program for before in seen]]
            await self._group.daemons[source].boot()
            await self._wait_for_mirrors(PROGRAMS, f"node {source} is back, and mirrors both again")

    async def _poll(self, program: Program) -> Before:
        """The staleness that is reported, and who is who."""
        known = await self._group.of[program.id].program()
        primary = known["primary"]
        polled_ns = time.monotonic_ns()
        status = await self._group.of[program.id].status(primary)
        if status["lag_ms"] is None or not status["pid"]:
            what = f"{program.id}@{primary} has no mirror that holds anything, or no process"
            raise DemoError(what, hint=f"see {self._machines.directory.path}")
        return Before(program, primary, known["token"], status["pid"], status["lag_ms"], polled_ns)

    async def _judge(self, kind: Kind, before: Before, event_ns: int) -> None:
        """Wait until all clients are back, and keep what they saw."""
        program, words = before.program, kind.replace("_", " ")
        with self._display.task(f"{program.id}, {words} on node {before.source}") as task:
            found = await self._clients[program.id].ask("settle", deadline_s=SETTLE_S, event_ns=event_ns)
            target = await self._told(before)
            if found["absent"]:
                what = f"{program.id}, {words}: {len(found['absent'])} clients have no answer since"
                raise DemoError(what, hint=f"see {self._machines.directory.path}")
            oldest_ns = found["oldest_lost_ns"]
            must_exist_before_ns = before.polled_ns - before.staleness_ms * NS_PER_MS
            takeover = Takeover(
                program=program.id,
                kind=kind,
                source=before.source,
                target=target,
                gap_ms=found["gap_ns"] / NS_PER_MS,
                staleness_reported_ms=before.staleness_ms,
                acknowledged=found["acknowledged"],
                lost=found["lost"],
                beyond_staleness=oldest_ns is not None and oldest_ns < must_exist_before_ns,
                sure=found["sure"],
                sure_lost=found["sure_lost"],
                bytes_per_s=self._costs[program.id].bytes_per_s,
                full_bytes=self._costs[program.id].full_bytes,
                wrong=tuple(found["wrong"]),
            )
            self.report.takeovers.append(takeover)
            safe = f", {takeover.sure_lost} of {takeover.sure:,} that were safe" if takeover.sure else ""
            task.result = (
                f"node {target} serves; lost {takeover.lost} of {takeover.acknowledged:,}{safe}; staleness "
                f"{before.staleness_ms:.0f} ms; gap {takeover.gap_ms:.0f} ms"
            )

    async def _told(self, before: Before) -> str:
        """Who serves now, as the leader says."""
        operator = self._group.of[before.program.id]
        target: list[str] = []

        async def served() -> bool:
            known = await operator.program()
            target[:] = [known["primary"]]
            return bool(known["token"] > before.token)

        await self._group.until(served, TAKEOVER_S, f"{before.program.id}: no takeover")
        return target[0]
