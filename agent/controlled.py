"""What an instance does for its controller, one request at a time, whichever of the two modes it mirrors in."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod

from agent.kept_link import Source
from agent.network.service_network import ServiceNetwork
from agent.surroundings import Surroundings
from agent.tasks import Tasks
from transport import control
from transport.checkpoint import Version
from transport.control import Reply, Request
from transport.counters import Counters
from transport.errors import ControlError


class Controlled(ABC):
    """One instance of a program on one node.

    incarnation: above that of any that was there before, though the clock was set back meanwhile. token: the highest
    that it serves or has followed under.
    counters: of what was refused.
    """

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.definition = around.definition
        self.name = f"{around.definition.program.id}@{around.node}"
        self.incarnation = max(time.time_ns(), around.after + 1)
        self.token = 0
        self.counters = Counters()
        self._loop = asyncio.get_running_loop()
        self._network: ServiceNetwork | None = None
        redirect = self.definition.redirect
        if redirect is not None and redirect.address:
            self._network = ServiceNetwork(self.name, redirect, around.track, self._loop)
        self._lock = asyncio.Lock()
        self._tasks = Tasks()

    async def handle(self, request: Request) -> Reply:
        """Carry out one request but those for what is known. Raises KagemushaError for what is refused."""
        async with self._lock:
            match request:
                case control.Launch(token):
                    return await self._launch(token)
                case control.Adopt(pid, start_ticks, token):
                    return await self._adopt(pid, start_ticks, token)
                case control.Follow(host, port, node, token):
                    return await self._follow(Source(host, port, node), token)
                case control.GetReady(token, version):
                    return await self._get_ready(token, version)
                case control.Activate(token, version):
                    return await self._activate(token, version)
                case control.Switch():
                    return await self._switch()
                case control.Fence():
                    return await self._fence()
                case control.Resume(token):
                    return await self._resume(token)
                case control.Release():
                    return await self._release()
                case control.Terminate(grace_ms):
                    return await self._terminate(grace_ms)
                case _:
                    raise ControlError(f"{type(request).__name__} is not for an instance")

    @abstractmethod
    async def _launch(self, token: int) -> Reply: ...

    @abstractmethod
    async def _adopt(self, pid: int, start_ticks: int, token: int) -> Reply: ...

    @abstractmethod
    async def _follow(self, source: Source, token: int) -> Reply: ...

    @abstractmethod
    async def _get_ready(self, token: int, version: Version | None) -> Reply: ...

    @abstractmethod
    async def _activate(self, token: int, version: Version | None) -> Reply: ...

    @abstractmethod
    async def _switch(self) -> Reply: ...

    @abstractmethod
    async def _fence(self) -> Reply: ...

    @abstractmethod
    async def _resume(self, token: int) -> Reply: ...

    @abstractmethod
    async def _release(self) -> Reply: ...

    @abstractmethod
    async def _terminate(self, grace_ms: int) -> Reply: ...
