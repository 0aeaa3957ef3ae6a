"""What an instance does besides answering: begun at once, awaited by nobody, ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Tasks:
    """All of them belong to the event loop in which they are started."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, job: Coroutine[object, object, object]) -> None:
        """Begin one."""
        task: asyncio.Task[object] = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all; returns when they have ended."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
