"""What an agent does when nobody leads it any more: the program's lease will end, so it is held while it can be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Leash:
    """Set by whoever leads the agent, before it may be missed. All methods belong to the event loop.

    hold: lets the program stand still at a last checkpoint, which its mirrors get.
    """

    def __init__(self, hold: Callable[[], Awaitable[None]]) -> None:
        self._hold = hold
        self._after_s = 0.0
        self._alone = True
        self._timer: asyncio.TimerHandle | None = None
        self._holding: asyncio.Task[None] | None = None

    def set(self, after_ms: int) -> None:
        """Hold the program when nobody has been there for so long; 0: never."""
        self._after_s = after_ms / 1000
        self._wait()

    def company(self, count: int) -> None:
        """So many are connected now."""
        self._alone = count == 0
        self._wait()

    async def close(self) -> None:
        """Do nothing more."""
        self._after_s = 0.0
        self._wait()
        if self._holding is not None:
            await asyncio.gather(self._holding, return_exceptions=True)

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._alone and self._after_s > 0:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._snap)

    def _snap(self) -> None:
        self._holding = asyncio.ensure_future(self._hold())
