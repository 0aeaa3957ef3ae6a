"""What an init system does for a node's daemon and keepalived: what ends is started again, unless there is no power."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.carrier import Keepalived
from tests.chaos.daemon import ReleasedDaemon
from tests.chaos.disk import Disk

RESTART_S = 0.5
CARRIER_RESTART_S = 0.1


class Keeper:
    """Keeps what runs on one node. starts: how often the daemon was started. carrier: None, where the daemon itself
    carries the address."""

    def __init__(self, daemon: ReleasedDaemon, carrier: Keepalived | None) -> None:
        self.daemon = daemon
        self.carrier = carrier
        self.disk = Disk(daemon.node)
        self.starts = 0
        self._on = asyncio.Event()
        self._boots = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start it on an empty disk, and keep it."""
        await asyncio.to_thread(self.disk.make)
        if self.carrier is not None:
            await self.carrier.start()
            self._tasks.append(asyncio.ensure_future(self._keep_carrier(self.carrier)))
        await self._start()
        self._on.set()
        self._tasks.append(asyncio.ensure_future(self._keep()))

    def leave(self) -> None:
        """The node's power goes now: nobody starts anything there."""
        self._on.clear()

    async def boot(self) -> None:
        """The power is back."""
        await self.daemon.boot(self.disk.mount)
        self.starts += 1
        if self.carrier is not None:
            await self.carrier.start()
        self._boots += 1
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.carrier is not None:
            await self.carrier.ended()
        await self.daemon.close()
        self.daemon.remove_cgroups()

    async def _start(self) -> None:
        self.starts += 1
        await self.daemon.start()

    async def _keep(self) -> None:
        while True:
            await self._on.wait()
            boots = self._boots
            await self.daemon.ended()
            await asyncio.sleep(RESTART_S)
            # What the node has booted with meanwhile is not to be started twice.
            if self._on.is_set() and boots == self._boots:
                await self._start()

    async def _keep_carrier(self, carrier: Keepalived) -> None:
        while True:
            await self._on.wait()
            boots = self._boots
            await carrier.ended()
            await asyncio.sleep(CARRIER_RESTART_S)
            if self._on.is_set() and boots == self._boots:
                await carrier.start()
