"""Accepts connections, one task for each, and leaves nothing behind: what links and control sockets have in common."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

_FULL_TABLE_S: Final = 0.1


class Acceptor:
    """Calls `serve` for each connection to `listener` (non-blocking, listening), which owns the socket from then on."""

    def __init__(self, listener: socket.socket, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._listener = listener
        self._serve = serve
        self._mistake: Exception | None = None
        self._fresh: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_task = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Stop to accept, cancel every `serve` and wait for its end. Raises what a `serve` last died of."""
        tasks = [self._loop_task, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that is cancelled before its first step never gets to close what it was made for.
        for connection in self._fresh:
            connection.close()
        self._listener.close()
        if self._mistake is not None:
            raise self._mistake

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                # No descriptor or memory is free, or the client is gone already (accept(2)): the next one may do.
                await asyncio.sleep(_FULL_TABLE_S)
                continue
            self._fresh.add(connection)
            task = asyncio.create_task(self._run(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: socket.socket) -> None:
        self._fresh.discard(connection)
        try:
            await self._serve(connection)
        except Exception as error:
            self.note(error)

    def note(self, mistake: Exception) -> None:
        """Keep what a `serve` dies of, for `close` to raise: its own cleaning up may be cancelled and hide it."""
        self._mistake = mistake
