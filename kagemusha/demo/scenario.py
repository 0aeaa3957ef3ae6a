"""The story, from an empty network to the last takeover. Every wait has an event and a deadline."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kagemusha.demo.agents import Agent
from kagemusha.demo.client import Client
from kagemusha.demo.conductor import Conductor
from kagemusha.demo.conductor import Takeover as Seen
from kagemusha.demo.display import Display, Task
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import ADDRESS, Machines
from kagemusha.demo.report import NS_PER_MS, Pauses, Report, Step, Takeover, TakeoverKind
from kagemusha.demo.story import FIRST_NODE, PORT, PROGRAM, Story, program_toml
from transport.control import Status
from transport.pki import Authority

TAKEOVER_S = 10.0
SETTLE_S = 40.0
MIB = 1 << 20
_CHECKPOINTS_AFTER_PING = 3
_LOOK_AGAIN_S = 0.02
_ASK_AGAIN_S = 0.2
_GAP_NAMES = {"busy": "longest gap", "anew": "longest gap, connecting"}


@dataclass(frozen=True, slots=True)
class Before:
    """What was known just before an event."""

    staleness_ms: float
    polled_ns: int
    token: int
    source: str
    target: str
    pid: int


Strike = Callable[[Before], Awaitable[int]]
"""Does the harm; returns when it began, CLOCK_MONOTONIC in ns."""


class Scenario:
    """Plays the story on the machines and fills the report."""

    def __init__(self, story: Story, display: Display, machines: Machines) -> None:
        self.report = Report(PROGRAM, story.interval_ms)
        self._story = story
        self._display = display
        self._machines = machines
        self._client = Client(machines.client, machines.directory.logs / "client.log")
        self._conductor = Conductor()
        self._lags_ms: list[float] = []
        self._checkpoint_bytes: list[float] = []
        self._pauses: dict[str, list[float]] = {"p50": [], "p99": [], "max": []}

    async def play(self) -> Report:
        """The whole story. DemoError at the first thing that does not happen as it must."""
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
        """Forget the processes, which are dead by now or die here."""
        await self._client.close()
        await self._conductor.close()

    # Scene 1: redis-server runs, is full, and has a mirror

    def _prepare_nodes(self) -> None:
        authority = Authority.create("demo")
        for node in self._machines.nodes.values():
            authority.issue(node.name).save(node.own_path("pki")[0])
            node.own_path("program.toml")[0].write_text(program_toml(self._story, self._machines.directory.data))

    async def _start(self) -> None:
        story, first = self._story, self._machines.nodes[FIRST_NODE]
        with self._display.task(f"{PROGRAM} under the agent of node {first.name}") as task:
            await self._conductor.launch(first)
            await self._client.start()
            task.now(f"filling it with {story.memory_mib} MiB of random values")
            filled = await self._ask(
                "fill", deadline_s=30 + story.memory_mib / 4, host=ADDRESS, port=PORT, mib=story.memory_mib
            )
            self.report.memory_mib = filled["used_memory_bytes"] // MIB
            task.result = f"{filled['keys']:,} keys, {self.report.memory_mib} MiB"
        with self._display.task("clients") as task:
            counts = {"idle": story.idle, "busy": story.busy, "anew": story.anew}
            await self._ask("connect", host=ADDRESS, port=PORT, **counts)
            task.result = f"{story.idle} idle, {story.busy} writing, {story.anew} that connect anew for each write"

    async def _ask(self, do: str, *, deadline_s: float = SETTLE_S, **arguments: object) -> dict[str, Any]:
        return await self._client.ask(do, deadline_s=deadline_s, **arguments)

    async def _writes_per_second(self, seconds: float) -> float:
        answer = await self._ask("measure", deadline_s=seconds + SETTLE_S, seconds=seconds)
        return float(answer["writes_per_second"])

    async def _measure(self) -> None:
        """What mirroring costs: the same clients without a mirror and with one, as fast as redis answers."""
        report, story = self.report, self._story
        with self._display.task("redis without a mirror") as task:
            await self._writes_per_second(self._story.warm_up_s)
            report.unmirrored_per_second = await self._writes_per_second(story.measure_s)
            task.result = f"{report.unmirrored_per_second:,.0f} writes/s"
        start_s = time.monotonic()
        await self._wait_for_mirror(self._conductor.mirror(self._machines.other(FIRST_NODE)))
        report.first_sync_s = time.monotonic() - start_s
        with self._display.task("redis with a mirror") as task:
            report.mirrored_per_second = await self._writes_per_second(story.measure_s)
            task.result = f"{report.mirrored_per_second:,.0f} writes/s ({report.throughput_ratio:.0%})"
        with self._display.task(f"load at {story.load_share:.0%} of what redis does without a mirror") as task:
            rate = 0 if story.load_share >= 1 else int(story.load_share * report.unmirrored_per_second)
            await self._ask("rate", per_second=rate)
            await self._writes_per_second(self._story.warm_up_s)
            before = await self._primary.status()
            report.load_per_second = await self._writes_per_second(story.measure_s)
            await self._note_primary(before)
            task.result = f"{report.load_per_second:,.0f} writes/s"

    @property
    def _primary(self) -> Agent:
        return self._conductor.agents[self._conductor.standing.primary]

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

    async def _take_over(self, kind: TakeoverKind, strike: Strike) -> None:
        """Wait until idle connections are in a checkpoint, poll the staleness, strike, judge what the clients saw."""
        conductor = self._conductor
        with self._display.task("clients write, checkpoints travel"):
            await self._settle_idle_connections()
            await self._writes_per_second(self._story.warm_up_s)
        conductor.takeover = seen = Seen()
        before = await self._poll()
        event_ns = await strike(before)
        await conductor.until(lambda: seen.serves_ns > 0, TAKEOVER_S, f"{kind}: no takeover")
        answer = await self._ask("settle", event_ns=event_ns)
        conductor.check()
        takeover = _judged(kind, before, seen, answer, event_ns)
        self.report.takeovers.append(takeover)
        self._display.takeover(takeover)
        outcome = answer["outcome"]
        problems = outcome["foreign"] + [f"connection {name} has no reply since" for name in outcome["silent"]]
        if problems:
            raise DemoError(f"{kind}: {problems[0]} (and {len(problems) - 1} more)")
        if kind != "node_killed":
            await self._wait_for_mirror(conductor.rebuild())

    async def _settle_idle_connections(self) -> None:
        """Ping the idle connections, then let some checkpoints pass: from then on the mirror has them as they are."""
        answer = await self._ask("ping")
        if answer["answered"] != answer["of"]:
            raise DemoError(f"only {answer['answered']} of {answer['of']} idle connections answer before the event")
        number = (await self._primary.status()).version.number + _CHECKPOINTS_AFTER_PING
        end_s = time.monotonic() + TAKEOVER_S
        while (await self._mirror.status()).version.number < number:
            self._conductor.check()
            if time.monotonic() > end_s:
                what = f"{self._mirror.name} does not get on: checkpoint {number} is not there in {TAKEOVER_S:g} s"
                raise DemoError(what, hint=f"see {self._mirror.log}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    @property
    def _mirror(self) -> Agent:
        name = self._conductor.standing.mirror
        if name is None:
            raise DemoError("the mirror is gone", hint=f"see {self._machines.directory.logs}")
        return self._conductor.agents[name]

    async def _poll(self) -> Before:
        """The staleness that the mirror reports of itself, and who is who."""
        primary, mirror = self._primary, self._mirror
        pid = await self._note_primary(None)
        polled_ns = time.monotonic_ns()
        status = await mirror.status()
        self._lags_ms.append(status.lag_ms)
        token = self._conductor.standing.token + 1
        return Before(status.staleness_ms, polled_ns, token, primary.node.name, mirror.node.name, pid)

    async def _note_primary(self, before: Status | None) -> int:
        """Keep what the primary says of its pauses; with an earlier status also how much a checkpoint has. The pid."""
        status = await self._primary.status()
        if before is None:
            self.report.checkpoints += status.checkpoints
        elif status.checkpoints > before.checkpoints:
            self._checkpoint_bytes.append((status.bytes - before.bytes) / (status.checkpoints - before.checkpoints))
        for name, pause_us in (
            ("p50", status.pauses.p50_us),
            ("p99", status.pauses.p99_us),
            ("max", status.pauses.max_us),
        ):
            self._pauses[name].append(pause_us)
        return status.pid

    async def _kill_program(self, before: Before) -> int:
        if not before.pid:
            raise DemoError(f"{self._primary.name} names no pid of {PROGRAM}", hint=f"see {self._primary.log}")
        event_ns = time.monotonic_ns()
        os.kill(before.pid, signal.SIGKILL)
        return event_ns

    async def _switch_over(self, _before: Before) -> int:
        event_ns = time.monotonic_ns()
        await self._conductor.hand_over()
        return event_ns

    async def _kill_node(self, _before: Before) -> int:
        node = self._primary.node
        event_ns = time.monotonic_ns()
        node.cut()
        # In a thread: that the agent is gone must be noticed while the last of the processes still dies.
        await asyncio.to_thread(node.kill)
        return event_ns

    def _finish(self) -> None:
        report, pauses = self.report, self._pauses
        report.pauses = Pauses(statistics.median(pauses["p50"]), max(pauses["p99"]), max(pauses["max"]))
        report.lag_ms = statistics.median(self._lags_ms)
        report.checkpoint_bytes = statistics.mean(self._checkpoint_bytes) if self._checkpoint_bytes else 0.0
        self._display.summary(report)


async def _show_progress(task: Task, conductor: Conductor) -> None:
    """Ask the agent that was started last how far its first image is."""
    before = conductor.newest
    while True:
        await asyncio.sleep(_ASK_AGAIN_S)
        agent = conductor.newest
        if agent is None or agent is before:
            continue
        sync = (await agent.status()).sync
        if sync is not None and sync.total_bytes:
            done = f"{sync.bytes / MIB:,.0f} of {sync.total_bytes / MIB:,.0f} MiB"
            task.now(f"{done} ({sync.bytes / sync.total_bytes:.0%}), {sync.bytes_per_s / MIB:,.0f} MiB/s")


def _judged(kind: TakeoverKind, before: Before, seen: Seen, answer: dict[str, Any], event_ns: int) -> Takeover:
    outcome = answer["outcome"]
    oldest_ns = outcome["oldest_lost_ns"]
    must_exist_before_ns = before.polled_ns - before.staleness_ms * NS_PER_MS
    return Takeover(
        kind=kind,
        source=before.source,
        target=before.target,
        token=before.token,
        gap_ms=(outcome["gap_ns"] or 0) / NS_PER_MS,
        gaps_ms={name: gap_ns / NS_PER_MS for name, gap_ns in outcome["gaps_ns"].items()},
        writes_acknowledged=outcome["writes_acknowledged"],
        writes_lost=outcome["writes_lost"],
        beyond_staleness=oldest_ns is not None and oldest_ns < must_exist_before_ns,
        staleness_reported_ms=before.staleness_ms,
        connections_idle=outcome["idle"],
        connections_idle_survived=outcome["idle_survived"],
        connections_busy=outcome["busy"],
        connections_busy_survived=outcome["busy_survived"],
        connections_reset=outcome["reset"],
        connections_hung=outcome["hung"],
        last_gasp=seen.last_gasp,
        hung_names=outcome["hung_names"],
        steps=time_line(kind, seen, event_ns, outcome),
        trace=answer["trace"],
        trace_before_ns=answer["trace_before_ns"],
    )


def time_line(kind: TakeoverKind, seen: Seen, event_ns: int, outcome: dict[str, Any]) -> list[Step]:
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
    if outcome["first_answered_ns"] is not None:
        steps.append(Step("client: first reply", 0.0, (outcome["first_answered_ns"] - event_ns) / NS_PER_MS))
    for clients, gap_ns in outcome["gaps_ns"].items():
        steps.append(Step(f"client: {_GAP_NAMES[clients]}", 0.0, gap_ns / NS_PER_MS))
    return steps
