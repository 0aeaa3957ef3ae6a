"""What every story has in common: clients, what mirroring costs, and the frame of a takeover.

Who starts the program, who decides and what can be asked is each story's own. Every wait has an event and a deadline.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kagemusha.demo.client import Client
from kagemusha.demo.display import Display, Task
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import ADDRESS, Machines
from kagemusha.demo.report import NS_PER_MS, Pauses, Report, Step, Takeover, TakeoverKind
from kagemusha.demo.story import PORT, PROGRAM, Story

TAKEOVER_S = 10.0
SETTLE_S = 40.0
MIB = 1 << 20
_CHECKPOINTS_AFTER_PING = 3
_LOOK_AGAIN_S = 0.02
_GAP_NAMES = {"busy": "longest gap", "anew": "longest gap, connecting"}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the primary's agent counts: `number` of its newest checkpoint, how many it took, with how many bytes, and
    how long the program stood still for them."""

    pid: int
    number: int
    checkpoints: int
    bytes: int
    pauses: Pauses


@dataclass(frozen=True, slots=True)
class Before:
    """What was known just before an event. leads: whether the primary's node leads the Raft group; None: there is no
    such group."""

    staleness_ms: float
    polled_ns: int
    token: int
    source: str
    pid: int
    leads: bool | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What those who decided say of a takeover. parts_ms: how long its parts took, by name."""

    target: str
    token: int
    steps: list[Step]
    parts_ms: dict[str, float] = field(default_factory=dict)


Strike = Callable[[Before], Awaitable[int]]
"""Does the harm; returns when it began, CLOCK_MONOTONIC in ns."""


class Scenario(ABC):
    """Plays a story on the machines and fills the report."""

    def __init__(self, story: Story, display: Display, machines: Machines) -> None:
        self.report = Report(PROGRAM, story.interval_ms)
        self._story = story
        self._display = display
        self._machines = machines
        self._client = Client(machines.client, machines.directory.logs / "client.log")
        self._lags_ms: list[float] = []
        self._checkpoint_bytes: list[float] = []
        self._pauses: list[Pauses] = []

    @abstractmethod
    async def play(self) -> Report:
        """The whole story. DemoError at the first thing that does not happen as it must."""

    async def close(self) -> None:
        """Forget the processes, which are dead by now or die here."""
        await self._client.close()

    # What a story knows

    @abstractmethod
    async def _figures(self) -> Figures:
        """What the primary's agent counts now."""

    @abstractmethod
    async def _behind(self, number: int) -> str:
        """The mirrors that do not hold checkpoint `number` yet, for a person; "" when all do."""

    @abstractmethod
    async def _poll(self) -> Before:
        """The staleness that is reported, and who is who."""

    @abstractmethod
    async def _told(self, kind: TakeoverKind, before: Before, event_ns: int) -> Told:
        """What there is to know of the takeover, when the clients have seen it. DemoError if there was none."""

    @abstractmethod
    async def _go_on(self, kind: TakeoverKind, before: Before) -> None:
        """See that there is what the next scene needs."""

    # Clients

    async def _ask(self, do: str, *, deadline_s: float = SETTLE_S, **arguments: object) -> dict[str, Any]:
        return await self._client.ask(do, deadline_s=deadline_s, **arguments)

    async def _fill(self, task: Task, host: str = ADDRESS) -> None:
        story = self._story
        task.now(f"filling it with {story.memory_mib} MiB of random values")
        deadline_s = 30 + story.memory_mib / 4
        filled = await self._ask("fill", deadline_s=deadline_s, host=host, port=PORT, mib=story.memory_mib)
        self.report.memory_mib = filled["used_memory_bytes"] // MIB
        task.result = f"{filled['keys']:,} keys, {self.report.memory_mib} MiB"

    async def _connect(self, host: str = ADDRESS) -> str:
        """Connect all clients; they write from then on. Says who they are."""
        story = self._story
        counts = {"idle": story.idle, "busy": story.busy, "anew": story.anew}
        await self._ask("connect", host=host, port=PORT, **counts)
        return f"{story.idle} idle, {story.busy} writing, {story.anew} that connect anew for each write"

    async def _writes_per_second(self, seconds: float) -> float:
        answer = await self._ask("measure", deadline_s=seconds + SETTLE_S, seconds=seconds)
        return float(answer["writes_per_second"])

    # What mirroring costs: the same clients without a mirror and with one, as fast as redis answers

    async def _measure_unmirrored(self) -> None:
        report = self.report
        await self._writes_per_second(self._story.warm_up_s)
        report.unmirrored_per_second = await self._writes_per_second(self._story.measure_s)

    async def _measure_mirrored(self) -> None:
        report = self.report
        with self._display.task(f"redis with {report.mirrors_in_words}") as task:
            report.mirrored_per_second = await self._writes_per_second(self._story.measure_s)
            task.result = f"{report.mirrored_per_second:,.0f} writes/s ({report.throughput_ratio:.0%})"

    async def _set_load(self, of_per_second: float, of_what: str) -> None:
        """Keep redis busy with a share of what it can do, from now on."""
        story, report = self._story, self.report
        with self._display.task(f"load at {story.load_share:.0%} of what redis does {of_what}") as task:
            await self._ask("rate", per_second=0 if story.load_share >= 1 else int(story.load_share * of_per_second))
            await self._writes_per_second(story.warm_up_s)
            before = await self._figures()
            report.load_per_second = await self._writes_per_second(story.measure_s)
            after = await self._figures()
            self._pauses.append(after.pauses)
            if after.checkpoints > before.checkpoints:
                taken = after.checkpoints - before.checkpoints
                self._checkpoint_bytes.append((after.bytes - before.bytes) / taken)
            task.result = f"{report.load_per_second:,.0f} writes/s"

    # Takeovers

    async def _take_over(self, kind: TakeoverKind, strike: Strike) -> None:
        """Wait until idle connections are in a checkpoint, poll the staleness, strike, judge what the clients saw."""
        with self._display.task("clients write, checkpoints travel"):
            await self._settle_idle_connections()
            await self._writes_per_second(self._story.warm_up_s)
        before = await self._poll()
        self._lags_ms.append(before.staleness_ms)
        event_ns = await strike(before)
        answer = await self._ask("settle", event_ns=event_ns)
        told = await self._told(kind, before, event_ns)
        takeover = _judged(kind, before, told, answer, event_ns)
        self.report.takeovers.append(takeover)
        self._display.takeover(takeover)
        outcome = answer["outcome"]
        problems = outcome["foreign"] + [f"connection {name} has no reply since" for name in outcome["silent"]]
        if problems:
            raise DemoError(f"{kind}: {problems[0]} (and {len(problems) - 1} more)")
        await self._go_on(kind, before)

    async def _settle_idle_connections(self) -> None:
        """Ping the idle connections, then let some checkpoints pass: from then on mirrors have them as they are."""
        answer = await self._ask("ping")
        if answer["answered"] != answer["of"]:
            raise DemoError(f"only {answer['answered']} of {answer['of']} idle connections answer before the event")
        number = (await self._figures()).number + _CHECKPOINTS_AFTER_PING
        end_s = time.monotonic() + TAKEOVER_S
        while behind := await self._behind(number):
            if time.monotonic() > end_s:
                what = f"{behind} does not get on: checkpoint {number} is not there in {TAKEOVER_S:g} s"
                raise DemoError(what, hint=f"see {self._machines.directory.logs}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _last_figures(self) -> int:
        """Keep what the primary says of its checkpoints before it ends. Gives the program's pid."""
        figures = await self._figures()
        self.report.checkpoints += figures.checkpoints
        self._pauses.append(figures.pauses)
        return figures.pid

    async def _kill_program(self, before: Before) -> int:
        if not before.pid:
            what = f"the agent of node {before.source} names no pid of {PROGRAM}"
            raise DemoError(what, hint=f"see {self._machines.directory.logs}")
        event_ns = time.monotonic_ns()
        os.kill(before.pid, signal.SIGKILL)
        return event_ns

    async def _kill_node(self, before: Before) -> int:
        node = self._machines.nodes[before.source]
        event_ns = time.monotonic_ns()
        node.cut()
        # In a thread: that the agent is gone must be noticed while the last of the processes still dies.
        await asyncio.to_thread(node.kill)
        return event_ns

    def _finish(self) -> None:
        report, pauses = self.report, self._pauses
        p50, p99, longest = zip(*((one.p50, one.p99, one.max) for one in pauses), strict=True)
        report.pauses = Pauses(statistics.median(p50), max(p99), max(longest))
        report.lag_ms = statistics.median(self._lags_ms)
        report.checkpoint_bytes = statistics.mean(self._checkpoint_bytes) if self._checkpoint_bytes else 0.0
        self._display.summary(report)


def _judged(kind: TakeoverKind, before: Before, told: Told, answer: dict[str, Any], event_ns: int) -> Takeover:
    outcome = answer["outcome"]
    oldest_ns = outcome["oldest_lost_ns"]
    must_exist_before_ns = before.polled_ns - before.staleness_ms * NS_PER_MS
    return Takeover(
        kind=kind,
        source=before.source,
        target=told.target,
        token=told.token,
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
        hung_names=outcome["hung_names"],
        raft_leader=before.leads,
        parts_ms=told.parts_ms,
        steps=[*told.steps, *client_steps(event_ns, outcome)],
        trace=answer["trace"],
        trace_before_ns=answer["trace_before_ns"],
    )


def client_steps(event_ns: int, outcome: dict[str, Any]) -> list[Step]:
    """How long clients waited, as steps from the event on."""
    steps = []
    if outcome["first_answered_ns"] is not None:
        steps.append(Step("client: first reply", 0.0, (outcome["first_answered_ns"] - event_ns) / NS_PER_MS))
    for clients, gap_ns in outcome["gaps_ns"].items():
        steps.append(Step(f"client: {_GAP_NAMES[clients]}", 0.0, gap_ns / NS_PER_MS))
    return steps
