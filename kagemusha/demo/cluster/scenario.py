"""The story of three nodes: killed three times, moved as planned, and two nodes die, the second of which also leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from kagemusha.client import Json
from kagemusha.demo.client import Client
from kagemusha.demo.cluster.daemon import Daemon
from kagemusha.demo.cluster.furnishing import arrived, furnish
from kagemusha.demo.cluster.operator import Operator
from kagemusha.demo.cluster.time_line import parts_ms, steps
from kagemusha.demo.cluster.waiting import until
from kagemusha.demo.display import Display, Task
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Machines
from kagemusha.demo.report import Pauses, Report, TakeoverKind
from kagemusha.demo.scenario import MIB, TAKEOVER_S, Before, Figures, Scenario, Told
from kagemusha.demo.story import FIRST_NODE, PROGRAM, Story, program_toml, redis_command

NODES = ("a", "b", "c")
CLUSTER_S = 60.0
_ASK_AGAIN_S = 0.2
_TRIES = 3


class ClusterScenario(Scenario):
    """The leader of the three decides everything; what happens here is the harm, and the questions."""

    def __init__(self, story: Story, display: Display, machines: Machines) -> None:
        super().__init__(story, display, machines)
        self.report.mirrors = len(NODES) - 1
        self._daemons = {name: Daemon(node) for name, node in machines.nodes.items()}
        self._operator: Operator | None = None
        self._onto_leader = False

    async def play(self) -> Report:
        """See `Scenario`."""
        token = self._furnish()
        await self._measure_alone()
        await self._start_cluster(token)
        await self._start_program()
        await self._measure_mirrored()
        await self._set_load(self.report.mirrored_per_second, f"with {self.report.mirrors_in_words}")
        for _ in range(self._story.rounds):
            await self._take_over("process_killed", self._kill_program)
        await self._take_over("switchover", self._switch_over)
        for leads in (False, True):
            await self._kill_a_node(leads)
        self._finish()
        return self.report

    async def close(self) -> None:
        """See `Scenario`."""
        await super().close()
        if self._operator is not None:
            await self._operator.close()
        for daemon in self._daemons.values():
            await daemon.close()
            daemon.remove_cgroups()

    # Scene 1: redis by itself, then under the cluster with a mirror on each of the two other nodes

    def _furnish(self) -> str:
        """Certificates of one authority, the settings, the program's file. Gives the operator's token."""
        for node in self._machines.nodes.values():
            text = program_toml(self._story, self._machines.directory.data)
            node.own_path("program.toml")[0].write_text(text)
        return furnish(self._machines)

    async def _measure_alone(self) -> None:
        node = self._machines.nodes[FIRST_NODE]
        with self._display.task(f"{PROGRAM} by itself, nothing of kagemusha near it") as task:
            log = self._machines.directory.logs / "alone.log"
            with log.open("w") as file:
                process = await asyncio.create_subprocess_exec(
                    *node.command(*redis_command(), "--dir", str(self._machines.directory.data)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                )
            try:
                await self._client.start()
                await self._fill(task, node.address)
                await self._connect(node.address)
                await self._measure_unmirrored()
            finally:
                await self._client.close()
                if process.returncode is None:
                    process.kill()
                await process.wait()
            task.result = f"{self.report.unmirrored_per_second:,.0f} writes/s"
        self._client = Client(self._machines.client, self._machines.directory.logs / "client.log")

    async def _start_cluster(self, token: str) -> None:
        with self._display.task("three daemons, a leader among them") as task:
            for daemon in self._daemons.values():
                await daemon.start()
            self._operator = await arrived(self._machines, token, NODES)
            await self._until(self._is_whole, CLUSTER_S, "the nodes do not come together")
            task.result = f"node {await self._leader()} leads"

    async def _is_whole(self) -> bool:
        nodes = await self._api.nodes()
        return all(one["alive"] for one in nodes) and any(one["leader"] for one in nodes)

    async def _start_program(self) -> None:
        api = self._api
        with self._display.task(f"create_mirrored_instance: {PROGRAM} on node {FIRST_NODE}") as task:
            await api.create(self._machines.directory.node / "program.toml", NODES)

            async def serves() -> bool:
                return bool((await api.status(FIRST_NODE))["pid"])

            await self._until(serves, CLUSTER_S, f"{PROGRAM} does not come up")
            await self._client.start()
            await self._fill(task)
        with self._display.task("clients") as task:
            task.result = await self._connect()
        start_s = time.monotonic()
        await self._wait_for_mirrors()
        self.report.first_sync_s = time.monotonic() - start_s

    @property
    def _api(self) -> Operator:
        if self._operator is None:
            raise DemoError("the cluster is not started yet")
        return self._operator

    async def _leader(self) -> str:
        """The node that leads the Raft group; waits for one."""
        found: list[str] = []

        async def leads() -> bool:
            found[:] = [one["node"] for one in await self._api.nodes() if one["leader"]]
            return bool(found)

        await self._until(leads, CLUSTER_S, "no node leads")
        return found[0]

    async def _until(self, is_so: Callable[[], Awaitable[bool]], deadline_s: float, what: str) -> None:
        """See `waiting.until`."""
        path = self._machines.directory.path
        await until(is_so, deadline_s, what, daemons=self._daemons.values(), logs=path)

    async def _wait_for_mirrors(self, title: str = "the mirrors' first image, while redis runs on") -> None:
        """Wait until every other node mirrors the primary, as its agent and the leader say."""
        with self._display.task(title) as task:

            async def mirrored() -> bool:
                program = await self._api.program()
                status = await self._api.status(program["primary"])
                _show_progress(task, status)
                following = sum(one["state"] == "following" for one in status["mirrors"])
                known = all(one["status"] == "mirrored" for one in program["instances"])
                await asyncio.sleep(_ASK_AGAIN_S)
                return known and following == self.report.mirrors and status["token"] == program["token"]

            await self._until(mirrored, 60 + self._story.memory_mib / 4, "not every mirror is ready")
            program = await self._api.program()
            names = [one["node"] for one in program["instances"] if one["role"] == "mirror"]
            held = [(await self._api.status(name))["memory_bytes"] / MIB for name in names]
            task.result = f"nodes {' and '.join(names)} hold {min(held):,.0f} MiB each"

    # Scene 2: takeovers

    async def _figures(self) -> Figures:
        return _figures_of(await self._api.status((await self._api.program())["primary"]))

    async def _behind(self, number: int) -> str:
        status = await self._api.status((await self._api.program())["primary"])
        behind = [one["instance"] for one in status["mirrors"] if (one["checkpoint"] or {}).get("number", 0) < number]
        return ", ".join(behind)

    async def _poll(self) -> Before:
        pid = await self._last_figures()
        leader = await self._leader()
        program = await self._api.program()
        primary = program["primary"]
        polled_ns = time.monotonic_ns()
        status = await self._api.status(primary)
        if status["lag_ms"] is None:
            raise DemoError(f"no mirror of node {primary} holds anything", hint=f"see {self._machines.directory.path}")
        return Before(status["lag_ms"], polled_ns, program["token"], primary, pid, primary == leader)

    async def _switch_over(self, before: Before) -> int:
        leader = await self._leader()
        others = (name for name in NODES if name not in (leader, before.source))
        target = leader if self._onto_leader else next(others)
        event_ns = time.monotonic_ns()
        await self._api.switch_over(target)
        return event_ns

    async def _kill_a_node(self, leads: bool) -> None:
        """Kill the primary's node: one that leads the group, or one that does not; the primary is moved there before.

        Who leads may change at any time: the scene is played again if it was the other kind.
        """
        self._onto_leader = leads
        for _ in range(_TRIES):
            if ((await self._api.program())["primary"] == await self._leader()) is not leads:
                await self._take_over("switchover", self._switch_over)
            await self._take_over("node_killed", self._kill_node)
            if self.report.takeovers[-1].raft_leader is leads:
                return
        raise DemoError(f"node {'with' if leads else 'without'} the lead was not to be had: it changes all the time")

    async def _told(self, kind: TakeoverKind, before: Before, event_ns: int) -> Told:
        told: list[Json] = []

        async def served() -> bool:
            program = await self._api.program()
            if program["token"] == before.token:
                return False
            told[:] = [program]
            return program["last_promotion"]["served_at"] is not None

        try:
            await self._until(served, TAKEOVER_S, f"{kind}: no takeover")
        except DemoError:
            # Known as long as the same node leads.
            if not told:
                raise
        (program,) = told
        promotion = program["last_promotion"]
        event_at_ns = event_ns + time.time_ns() - time.monotonic_ns()
        return Told(program["primary"], program["token"], steps(promotion, event_at_ns), parts_ms(promotion))

    async def _go_on(self, kind: TakeoverKind, before: Before) -> None:
        if kind != "node_killed":
            await self._wait_for_mirrors()
            return
        await self._daemons[before.source].boot()
        await self._wait_for_mirrors(f"node {before.source} is back, and its instance a mirror again")


def _figures_of(status: Json) -> Figures:
    pauses = status["pauses"]
    return Figures(
        status["pid"],
        (status["checkpoint"] or {}).get("number", 0),
        status["checkpoints"],
        status["streamed_bytes"],
        Pauses(pauses["p50_us"], pauses["p99_us"], pauses["max_us"]),
    )


def _show_progress(task: Task, status: Json) -> None:
    """How far the primary's full transfers are, all together."""
    transfers = [one["sync"] for one in status["mirrors"] if one["sync"] is not None]
    done, total, rate = (sum(one[key] for one in transfers) for key in ("done_bytes", "total_bytes", "bytes_per_s"))
    task.progress(done, total, rate)
