"""Carries out what the controller decides: listens to agents, asks `controller.step`, does as it says."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Node
from kagemusha.demo.pair import controller
from kagemusha.demo.pair.agents import Agent
from kagemusha.demo.pair.controller import Activate, Effect, GiveUp, Rebuild, Release, Standing
from transport import control
from transport.checkpoint import Version

FIRST_TOKEN = 1


@dataclass(slots=True)
class Takeover:
    """What the controller saw of a takeover; times are CLOCK_MONOTONIC in ns, 0 for what has not happened."""

    ended_ns: int = 0
    told_ns: int = 0
    serves_ns: int = 0
    last_gasp: bool = False
    timeline: tuple[tuple[str, int], ...] = ()


class Conductor:
    """Holds the agents and the standing. `until` waits for anything that changes with an event."""

    def __init__(self) -> None:
        self.standing = Standing("", FIRST_TOKEN)
        self.agents: dict[str, Agent] = {}
        self.held: dict[str, Version] = {}
        self.newest: Agent | None = None
        self.takeover = Takeover()
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._rebuild: Rebuild | None = None
        self._changed = asyncio.Event()
        self._started = 0
        self._leaving: set[int] = set()

    async def launch(self, node: Node) -> None:
        """Start the program on a node, as the primary."""
        agent = await self._start_agent(node)
        await agent.carry_out(control.Launch(FIRST_TOKEN))
        self.standing = Standing(node.name, FIRST_TOKEN)

    async def mirror(self, node: Node) -> None:
        """Start an agent on a node and let it follow the primary."""
        self.held.pop(node.name, None)
        agent = await self._start_agent(node)
        primary = self.agents[self.standing.primary]
        await agent.carry_out(
            control.Follow(primary.node.address, primary.stream_port, primary.node.name, self.standing.token)
        )

    async def rebuild(self) -> None:
        """Start the old primary's node anew as a mirror of the new one, if the controller wants that."""
        wanted, self._rebuild = self._rebuild, None
        if wanted is None:
            return
        old = self.agents[wanted.node]
        self._leaving.add(old.number)
        await old.stop()
        await self.mirror(old.node)

    async def hand_over(self) -> None:
        """Planned: stop the primary at a last checkpoint, and let the mirror go on from it."""
        agent = self.agents[self.standing.primary]
        reply = await agent.request(control.Switch())
        if not isinstance(reply, control.Held):
            raise DemoError(f"Switch: {agent.name} replies {reply}", hint=f"see {agent.log}")
        self.takeover.ended_ns = time.monotonic_ns()
        self.takeover.last_gasp = True
        ended = controller.ProgramEnded(agent.node.name, by_itself=False, fenced=True, final=reply.version)
        token = self.standing.token
        try:
            await self._step(ended)
        except DemoError:
            # The mirror refused: nothing was lost but time, if the old primary goes on.
            await agent.carry_out(control.Resume(token))
            raise

    def check(self) -> None:
        """Raise what went wrong since, if anything did."""
        if self._error is not None:
            raise self._error

    async def until(self, is_so: Callable[[], bool], deadline_s: float, what: str) -> None:
        """Wait for a condition over this object; DemoError `what` if it does not come true in time, and whatever
        went wrong meanwhile."""
        try:
            async with asyncio.timeout(deadline_s):
                self.check()
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()
                    self.check()
        except TimeoutError as error:
            logs = ", ".join(str(agent.log) for agent in self.agents.values())
            raise DemoError(f"{what} within {deadline_s:g} s", hint=f"see {logs}") from error

    async def close(self) -> None:
        """Forget the agents; their processes are killed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for agent in self.agents.values():
            await agent.close()

    async def _start_agent(self, node: Node) -> Agent:
        self._started += 1
        agent = self.agents[node.name] = Agent(node, self._started)
        await agent.start()
        self.newest = agent
        self._spawn(self._listen(agent))
        return agent

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
            self._changed.set()

    async def _listen(self, agent: Agent) -> None:
        name = agent.node.name
        async for event in agent.events():
            match event:
                case control.Mirrored(instance, _, version) if instance.endswith(f"@{name}"):
                    self.held[name] = version
                    await self._step(controller.Mirrored(name))
                case control.Exited(status, final, fenced, last_gasp, _) if name == self.standing.primary:
                    self.takeover.ended_ns = time.monotonic_ns()
                    self.takeover.last_gasp = last_gasp
                    by_itself = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
                    await self._step(controller.ProgramEnded(name, by_itself, fenced, final))
                case control.Activated(_, _, timeline):
                    self.takeover.timeline = timeline
                case control.Failed(what, hint):
                    await self._step(controller.MirrorFailed(name))
                    raise DemoError(f"{agent.name}: {what}", hint="; ".join(filter(None, (hint, f"see {agent.log}"))))
            self._changed.set()
        if agent.number not in self._leaving:
            await self._lost(agent)

    async def _lost(self, agent: Agent) -> None:
        self.takeover.ended_ns = self.takeover.ended_ns or time.monotonic_ns()
        try:
            await self._step(controller.NodeLost(agent.node.name, agent.node.is_cut))
        except DemoError as error:
            raise DemoError(f"{error.what}; its last words: {agent.last_words()}", hint=error.hint) from error

    async def _step(self, event: controller.Event) -> None:
        self.standing, effects = controller.step(self.standing, event)
        for effect in effects:
            await self._perform(effect)
        self._changed.set()

    async def _perform(self, effect: Effect) -> None:
        match effect:
            case Activate(node, token, version):
                self.takeover.told_ns = time.monotonic_ns()
                await self.agents[node].carry_out(control.Activate(token, version))
                self.takeover.serves_ns = time.monotonic_ns()
                await self._step(controller.Activated(node))
            case Release(node):
                await self.agents[node].carry_out(control.Release())
            case Rebuild():
                self._rebuild = effect
            case GiveUp(why):
                logs = ", ".join(str(agent.log) for agent in self.agents.values())
                raise DemoError(why, hint=f"see {logs}")
