"""What an instance has to do besides what it was ordered: begun at once, awaited by nobody, ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import structlog

from transport.errors import KagemushaError

log = structlog.get_logger()


class Jobs:
    """Of one instance, whose id is for the log: a KagemushaError ends there."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, job: Coroutine[object, object, None]) -> None:
        """Begin a job."""
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all of them; returns when they have ended."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: Coroutine[object, object, None]) -> None:
        try:
            await job
        except KagemushaError as error:
            log.warning("not done", instance=self._instance, reason=error.what, hint=error.hint)


async def happened(event: asyncio.Event, limit_s: float) -> bool:
    """Whether it happens within so many seconds."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
