"""What a cluster says of itself: who has which role, what is missing until it is whole, its staleness, its history."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kagemusha.client import Json
from kagemusha.demo.errors import DemoError
from tests.chaos.administrator import Administrator
from tests.chaos.evidence import Agreed, Report, Standing
from tests.chaos.plan import Target

START_S = 120.0
WHOLE_S = 150.0
QUIET_S = 10.0
LOOK_AGAIN_S = 0.1
_ASK_S = 3.0
_TERMS_EVERY_S = 0.5
_HISTORY_MAX = 1000
_HISTORY_EVERY_S = 30.0
_TRIES = 5


def unnoted(_: str) -> None:
    """Nobody writes down what is waited for."""


class SceneError(Exception):
    """The cluster does not come up, or can't be asked: nothing of the product was judged yet."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Which node has which role. names: of all nodes."""

    primary: str
    leader: str
    names: Sequence[str]

    def node_of(self, target: Target, chance: random.Random) -> str:
        """The node that is meant; for a mirror or a follower one of them, by chance."""
        match target:
            case "primary":
                return self.primary
            case "leader":
                return self.leader
            case "mirror":
                return chance.choice([name for name in self.names if name != self.primary])
            case "follower":
                return chance.choice([name for name in self.names if name != self.leader])

    def stands_by(self, node: str) -> bool:
        """Whether it neither serves nor leads: its loss costs nothing."""
        return node not in (self.primary, self.leader)


class Observer:
    """Asks whatever node answers (`anybody`), and for its history and its term each (`each`, by name).

    reports, standings: of the staleness and of terms, while `report` runs.
    """

    def __init__(self, anybody: Administrator, each: Mapping[str, Administrator], logs: object) -> None:
        self.reports: list[Report] = []
        self.standings: list[Standing] = []
        self._remembered: dict[Agreed, None] = {}
        self._anybody = anybody
        self._each = each
        self._logs = logs

    async def ask(self, question: Any) -> Any:
        """An answer within three seconds. Raises DemoError, TimeoutError."""
        async with asyncio.timeout(_ASK_S):
            return await question

    async def roles(self) -> Roles:
        """Who is who now; waits for a primary and a leader. Raises SceneError."""
        end_s = time.monotonic() + WHOLE_S
        while time.monotonic() < end_s:
            try:
                primary = (await self.ask(self._anybody.program()))["primary"]
                leader = next((one["node"] for one in await self.ask(self._anybody.nodes()) if one["leader"]), None)
            except (DemoError, TimeoutError):
                leader = primary = None
            if primary and leader:
                return Roles(str(primary), str(leader), tuple(self._each))
            await asyncio.sleep(LOOK_AGAIN_S)
        raise SceneError("there is no primary, or no leader")

    async def history(self) -> list[Agreed]:
        """As each node tells it, and has told it: nodes remember their last thousand events. A node that was away may
        be some events behind when all is whole again: it has time, and what they tell then is what they tell. Raises
        SceneError."""
        end_s = time.monotonic() + QUIET_S
        while True:
            by_node = {name: await self._history_of(name) for name in self._each}
            newest = {events[-1]["index"] if events else 0 for events in by_node.values()}
            if len(newest) == 1 or time.monotonic() > end_s:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        for name, events in by_node.items():
            self._remember(name, events)
        return list(self._remembered)

    async def _history_of(self, name: str) -> list[Json]:
        trouble: Exception | None = None
        for _ in range(_TRIES):
            try:
                return list(await self.ask(self._each[name].history(_HISTORY_MAX)))
            except (DemoError, TimeoutError) as error:
                trouble = error
        raise SceneError(f"node {name} does not tell its history: {trouble or 'no answer in time'}")

    async def until_whole(self, deadline_s: float = WHOLE_S, note: Callable[[str], None] = unnoted) -> str:
        """Wait until all nodes are there and every other one mirrors the primary; "" then, else what is missing. note:
        is told what is waited for, as that changes."""
        end_s = time.monotonic() + deadline_s
        before = ""
        while missing := await self._missing():
            if missing != before:
                note(f"waits: {missing}")
                before = missing
            if time.monotonic() > end_s:
                return missing
            await asyncio.sleep(LOOK_AGAIN_S)
        return ""

    async def _missing(self) -> str:
        try:
            nodes = await self.ask(self._anybody.nodes())
            program = await self.ask(self._anybody.program())
            status = await self.ask(self._anybody.status(program["primary"])) if program["primary"] else None
            healths = [await self.ask(each.health()) for each in self._each.values()]
        except (DemoError, TimeoutError) as error:
            return f"the API does not answer: {error or 'in time'}"
        return what_is_missing(nodes, program, status) or who_is_apart(healths)

    async def until_there(self) -> None:
        """Wait until all nodes are there, and one of them leads. Raises SceneError."""
        end_s = time.monotonic() + START_S
        while True:
            try:
                nodes = await self.ask(self._anybody.nodes())
                if all(one["alive"] for one in nodes) and any(one["leader"] for one in nodes):
                    return
            except (DemoError, TimeoutError):
                pass
            if time.monotonic() > end_s:
                raise SceneError(f"the nodes do not come together; see {self._logs}")
            await asyncio.sleep(LOOK_AGAIN_S)

    async def report(self) -> None:
        """Ask for the staleness, for terms and for what was agreed, again and again, until it is cancelled."""
        terms = map(self._ask_for_the_term, self._each)
        await asyncio.gather(self._ask_for_the_staleness(), *terms, *map(self._ask_for_the_history, self._each))

    async def _ask_for_the_staleness(self) -> None:
        while True:
            asked_ns = time.monotonic_ns()
            try:
                program = await self.ask(self._anybody.program())
                told_ns = time.monotonic_ns()
                status = await self.ask(self._anybody.status(program["primary"]))
            except (DemoError, TimeoutError):
                pass
            else:
                lag_ms = status["lag_ms"] if status["token"] == program["token"] else None
                told = (program["token"], program["primary"], lag_ms)
                self.reports.append(Report(program["program"], asked_ns, told_ns, *told))
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _ask_for_the_term(self, name: str) -> None:
        while True:
            asked_ns = time.monotonic_ns()
            try:
                health = await self.ask(self._each[name].health())
            except (DemoError, TimeoutError):
                pass
            else:
                self.standings.append(Standing(name, asked_ns, time.monotonic_ns(), health["term"]))
            await asyncio.sleep(_TERMS_EVERY_S)

    async def _ask_for_the_history(self, name: str) -> None:
        while True:
            await asyncio.sleep(_HISTORY_EVERY_S)
            try:
                self._remember(name, await self.ask(self._each[name].history(_HISTORY_MAX)))
            except (DemoError, TimeoutError):
                pass

    def _remember(self, name: str, events: Iterable[Json]) -> None:
        keys = ("index", "kind", "program", "node", "text")
        self._remembered.update((Agreed(name, *(event[key] for key in keys)), None) for event in events)


def who_is_apart(healths: Sequence[Json]) -> str:
    """ "" if every node follows the same leader in the same term; else who does not. A member that takes no part any
    more may be heard all the same, and mirror."""
    groups = {(one["leader"], one["term"]) for one in healths}
    if len(groups) == 1 and healths[0]["leader"] is not None:
        return ""
    told = ", ".join(f"node {one['node']} follows {one['leader']} in term {one['term']}" for one in healths)
    return f"the members do not agree: {told}"


def what_is_missing(nodes: Sequence[Json], program: Json, status: Json | None) -> str:
    """ "" if everything is there and every mirror follows the primary; else the first thing that is not so."""
    away = [one["node"] for one in nodes if not one["alive"]]
    if away:
        return f"node {', '.join(away)} is not there"
    if not any(one["leader"] for one in nodes):
        # What was isolated and leads no more says what it knows, which is old.
        return "nobody leads"
    if status is None or program["fenced"]:
        return "nobody serves"
    if status["token"] != program["token"]:
        return f"the primary's agent has token {status['token']}, agreed is {program['token']}"
    late = [one["instance"] for one in program["instances"] if one["status"] != "mirrored"]
    if late:
        return f"not mirrored: {', '.join(late)}"
    following = {one["instance"] for one in status["mirrors"] if one["state"] == "following"}
    waiting = [one["instance"] for one in program["instances"] if one["role"] == "mirror"]
    lagging = [name for name in waiting if name not in following]
    return f"does not follow yet: {', '.join(lagging)}" if lagging else ""
