"""The story of two nodes, from an empty network to the last takeover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from kagemusha.demo.display import Display, Task
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Machines
from kagemusha.demo.pair.agents import Agent
from kagemusha.demo.pair.conductor import Conductor
from kagemusha.demo.pair.conductor import Takeover as Seen
from kagemusha.demo.report import NS_PER_MS, Pauses, Report, Step, TakeoverKind
from kagemusha.demo.scenario import MIB, TAKEOVER_S, Before, Figures, Scenario, Told
from kagemusha.demo.story import FIRST_NODE, PROGRAM, Story, program_toml
from transport.pki import Authority

NODES = ("a", "b")
_ASK_AGAIN_S = 0.2


class PairScenario(Scenario):
    """Killed three times, moved as planned, and then the whole node dies."""

    def __init__(self, story: Story, display: Display, machines: Machines) -> None:
        super().__init__(story, display, machines)
        self._conductor = Conductor()

    async def play(self) -> Report:
        """See `Scenario`."""
        self._prepare_nodes()
        await self._start()
        await self._measure()
        for _ in range(self._story.rounds):
            await self._take_over("process_killed", self._kill_program)
        await self._take_over("switchover", self._switch_over)
        await self._take_over("node_killed", self._kill_node)
        self._finish()
        return self.report

    async def close(self) -> None:
        """See `Scenario`."""
        await super().close()
        await self._conductor.close()

    # Scene 1: redis-server runs, is full, and has a mirror

    def _prepare_nodes(self) -> None:
        authority = Authority.create("demo")
        for node in self._machines.nodes.values():
            authority.issue(node.name).save(node.own_path("pki")[0])
            node.own_path("program.toml")[0].write_text(program_toml(self._story, self._machines.directory.data))

    async def _start(self) -> None:
        first = self._machines.nodes[FIRST_NODE]
        with self._display.task(f"{PROGRAM} under the agent of node {first.name}") as task:
            await self._conductor.launch(first)
            await self._client.start()
            await self._fill(task)
        with self._display.task("clients") as task:
            task.result = await self._connect()

    async def _measure(self) -> None:
        """Without a mirror, with one, and under the load of the takeovers."""
        with self._display.task("redis without a mirror") as task:
            await self._measure_unmirrored()
            task.result = f"{self.report.unmirrored_per_second:,.0f} writes/s"
        start_s = time.monotonic()
        await self._wait_for_mirror(self._conductor.mirror(self._machines.other(FIRST_NODE)))
        self.report.first_sync_s = time.monotonic() - start_s
        await self._measure_mirrored()
        await self._set_load(self.report.unmirrored_per_second, "without a mirror")

    async def _wait_for_mirror(self, beginning: Awaitable[None]) -> None:
        conductor = self._conductor
        with self._display.task("the mirror's first image, while redis runs on") as task:
            deadline_s = 60 + self._story.memory_mib / 4
            showing = asyncio.create_task(_show_progress(task, conductor))
            try:
                await beginning
                await conductor.until(lambda: conductor.standing.mirror is not None, deadline_s, "no mirror is ready")
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
            mirror = conductor.agents[conductor.standing.mirror or ""]
            task.result = f"node {mirror.node.name} holds {(await mirror.status()).memory_bytes / MIB:,.0f} MiB"

    # Scene 2: takeovers

    @property
    def _primary(self) -> Agent:
        return self._conductor.agents[self._conductor.standing.primary]

    @property
    def _mirror(self) -> Agent:
        name = self._conductor.standing.mirror
        if name is None:
            raise DemoError("the mirror is gone", hint=f"see {self._machines.directory.logs}")
        return self._conductor.agents[name]

    async def _figures(self) -> Figures:
        status = await self._primary.status()
        pauses = Pauses(status.pauses.p50_us, status.pauses.p99_us, status.pauses.max_us)
        return Figures(status.pid, status.version.number, status.checkpoints, status.bytes, pauses)

    async def _behind(self, number: int) -> str:
        self._conductor.check()
        return "" if (await self._mirror.status()).version.number >= number else self._mirror.name

    async def _poll(self) -> Before:
        pid = await self._last_figures()
        self._conductor.takeover = Seen()
        polled_ns = time.monotonic_ns()
        status = await self._mirror.status()
        return Before(status.staleness_ms, polled_ns, self._conductor.standing.token, self._primary.node.name, pid)

    async def _switch_over(self, _before: Before) -> int:
        event_ns = time.monotonic_ns()
        await self._conductor.hand_over()
        return event_ns

    async def _told(self, kind: TakeoverKind, before: Before, event_ns: int) -> Told:
        seen = self._conductor.takeover
        await self._conductor.until(lambda: seen.serves_ns > 0, TAKEOVER_S, f"{kind}: no takeover")
        standing = self._conductor.standing
        return Told(standing.primary, standing.token, time_line(kind, seen, event_ns))

    async def _go_on(self, kind: TakeoverKind, before: Before) -> None:
        if kind != "node_killed":
            await self._wait_for_mirror(self._conductor.rebuild())


async def _show_progress(task: Task, conductor: Conductor) -> None:
    """Ask the agent that was started last how far its first image is."""
    before = conductor.newest
    while True:
        await asyncio.sleep(_ASK_AGAIN_S)
        agent = conductor.newest
        if agent is None or agent is before:
            continue
        sync = (await agent.status()).sync
        if sync is not None:
            task.progress(sync.bytes, sync.total_bytes, sync.bytes_per_s)


def time_line(kind: TakeoverKind, seen: Seen, event_ns: int) -> list[Step]:
    """The takeover as steps in ms after the event. The agent knows how long its steps took and in which order, the
    controller when it told it to take over: so they are placed from there on."""
    ended_ms, told_ms = ((at_ns - event_ns) / NS_PER_MS for at_ns in (seen.ended_ns, seen.told_ns))
    first = {
        "process_killed": "death, last checkpoint" if seen.last_gasp else "death noticed",
        "switchover": "stop, last checkpoint",
        "node_killed": "link cut, agent's end seen",
    }[kind]
    steps = [Step(first, 0.0, ended_ms), Step("controller decides", ended_ms, told_ms - ended_ms)]
    at_ms = told_ms
    for name, took_us in seen.timeline:
        steps.append(Step(name, at_ms, took_us / 1e3))
        at_ms += took_us / 1e3
    return steps
