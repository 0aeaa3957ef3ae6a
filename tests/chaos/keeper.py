"""What an init system does for a node's daemon: it is started again whenever it ends, unless the node has no power."""

from __future__ import annotations

import asyncio
import time

from kagemusha.demo.cluster.daemon import Daemon

RESTART_S = 0.5


class Keeper:
    """Keeps one daemon. starts: how often it was started."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.starts = 0
        self._on = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, and keep it."""
        await self._start()
        self._on.set()
        self._task = asyncio.ensure_future(self._keep())

    def leave(self) -> None:
        """The node's power goes now: nobody starts anything there."""
        self._on.clear()

    async def boot(self) -> None:
        """The power is back."""
        await self.daemon.boot()
        self.starts += 1
        self._on.set()

    async def started(self, before: int, deadline_s: float = 20.0) -> int:
        """Wait until it was started more often than so; gives how often it was."""
        end_s = time.monotonic() + deadline_s
        while self.starts <= before and time.monotonic() < end_s:
            await asyncio.sleep(RESTART_S / 10)
        return self.starts

    async def close(self) -> None:
        """End the daemon, and what it has left."""
        self.leave()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.daemon.close()
        self.daemon.remove_cgroups()

    async def _start(self) -> None:
        self.starts += 1
        await self.daemon.start()

    async def _keep(self) -> None:
        while True:
            await self._on.wait()
            await self.daemon.ended()
            await asyncio.sleep(RESTART_S)
            if self._on.is_set():
                await self._start()
