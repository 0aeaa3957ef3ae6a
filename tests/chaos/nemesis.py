"""Walks through a plan: does the harm of a step, lets it last, asks for its effect, heals it, waits for the cluster."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from kagemusha.demo.errors import DemoError
from tests.chaos.evidence import Census, Loses, Struck
from tests.chaos.observer import Roles
from tests.chaos.plan import Plan, Step, Strike
from tests.chaos.processes import NoProcess
from tests.chaos.stage import Harm, Stage

_TROUBLE = (NoProcess, DemoError, OSError, TimeoutError, subprocess.SubprocessError)
"""Of a fault that could not be done: it had no effect, and the run says so."""


class Notes:
    """What the nemesis does, in a log with times and, when it is over, to whoever listens."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell

    def write(self, line: str) -> None:
        """Into the log."""
        with self._path.open("a") as file:
            file.write(f"{datetime.now(UTC).isoformat().replace('+00:00', 'Z')} {line}\n")

    def tell(self, line: str) -> None:
        """Into the log, and to whoever listens."""
        self.write(line)
        self._tell(line)


class Nemesis:
    """struck: the faults that there were. census: taken whenever all was whole, also in the end."""

    def __init__(self, stage: Stage, plan: Plan, notes: Notes) -> None:
        self.struck: list[Struck] = []
        self.census: list[Census] = []
        self._stage = stage
        self._plan = plan
        self._notes = notes
        self._chance = random.Random(plan.seed)

    async def run(self) -> None:
        """The whole plan, or until the cluster is not whole again."""
        await self._stage.until_whole(self._notes.write)
        self.census += await self._stage.census()
        for number, step in enumerate(self._plan.steps, start=1):
            if not await self._step(number, step):
                return
            await asyncio.sleep(step.rest_s)
        if missing := await self._stage.until_whole(self._notes.write):
            # It was whole, and nothing was done to it since.
            self.struck[-1] = replace(self.struck[-1], whole_ns=None, unhealed=missing)
            self._notes.tell(f"NOT WHOLE ANY MORE: {missing}")
        else:
            self.census += await self._stage.census()

    async def _step(self, number: int, step: Step) -> bool:
        roles = await self._stage.roles()
        faults = [(strike, self._fault(strike, roles)) for strike in step.strikes]
        struck = []
        for strike, fault in faults:
            self._notes.write(f"begins: {fault.kind} at node {fault.node}")
            begun_ns = time.monotonic_ns()
            trouble = await _tried(fault.begin())
            loses = loss_of([fault.loses for _, fault in faults], stands_by=roles.stands_by(fault.node))
            times_ns = (begun_ns, time.monotonic_ns(), 0, 0, None)
            struck.append(Struck(number, fault.kind, strike.target, fault.node, loses, *times_ns, "", trouble))
        await asyncio.sleep(step.for_s)
        pairs = [(one, fault) for one, (_, fault) in zip(struck, faults, strict=True)]
        effects = ["" if one.unhealed else await self._effect(fault) for one, fault in pairs]
        over_ns = time.monotonic_ns()
        for one, fault in pairs:
            if not one.unhealed:
                self._notes.write(f"is healed: {fault.kind} at node {fault.node}")
                if trouble := await _tried(fault.heal()):
                    self._notes.write(f"is not healed: {fault.kind} at node {fault.node}: {trouble}")
        healed_ns = time.monotonic_ns()
        missing = await self._stage.until_whole(self._notes.write)
        whole_ns = None if missing else time.monotonic_ns()
        for one, effect in zip(struck, effects, strict=True):
            unhealed = missing or one.unhealed
            judged = replace(one, effect=effect, unhealed=unhealed)
            done = replace(judged, over_ns=over_ns, healed_ns=healed_ns, whole_ns=whole_ns)
            self.struck.append(done)
            self._notes.tell(_line(done))
        if not missing:
            self.census += await self._stage.census()
        return not missing

    def _fault(self, strike: Strike, roles: Roles) -> Harm:
        return self._stage.harm(strike.kind, roles.node_of(strike.target, self._chance), self._chance)

    async def _effect(self, fault: Harm) -> str:
        try:
            return await fault.effect()
        except _TROUBLE:
            return ""


def loss_of(allowed: Sequence[Loses], *, stands_by: bool) -> Loses:
    """What the faults of a step may cost: two at once all, one at a node that neither serves nor leads nothing."""
    if len(allowed) > 1:
        return "everything"
    return "nothing" if stands_by else allowed[0]


async def _tried(deed: Awaitable[None]) -> str:
    """Do it; gives what went wrong."""
    try:
        await deed
    except _TROUBLE as error:
        return str(error) or type(error).__name__
    return ""


def _line(one: Struck) -> str:
    if one.whole_ns is None:
        end = f"NOT WHOLE AGAIN: {one.unhealed}"
    else:
        end = f"whole again {(one.whole_ns - one.healed_ns) / 1e9:.1f} s after its end"
    effect = one.effect or f"NO EFFECT {one.unhealed}"
    return f"{one.number:3} {one.kind} at the {one.target} ({one.node}): {effect}; {end}"
