"""Lets a member's time pass in an asyncio event loop: a tick after everything that happens, and when one is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from cluster.raft.errors import StorageError


class Ticking(Protocol):
    """What a driver drives."""

    def tick(self) -> None:
        """Let time pass."""

    def due_in_s(self) -> float:
        """Return when it wants the next tick, if nothing happens before."""


class Driver:
    """Drives `ticking` from its making until `stop`.

    before_tick, after_tick: called around each tick. on_failure: it has stopped.
    """

    def __init__(
        self,
        ticking: Ticking,
        before_tick: Callable[[], None],
        after_tick: Callable[[], None],
        on_failure: Callable[[StorageError], None],
    ) -> None:
        self._ticking = ticking
        self._before_tick = before_tick
        self._after_tick = after_tick
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self._stopped = False
        self.wake()

    def wake(self) -> None:
        """Something happened: tick once the event loop has handled what is ready now."""
        if self._soon is None and not self._stopped:
            self._soon = self._loop.call_soon(self._tick)

    def perform(self, work: Callable[[], None]) -> None:
        """Do what may change the ticking one, and wake it. What its storage raises ends everything."""
        if self._stopped:
            return
        try:
            work()
        except StorageError as error:
            self._fail(error)
            return
        self.wake()

    def stop(self) -> None:
        """No further tick."""
        self._stopped = True
        for handle in (self._timer, self._soon):
            if handle is not None:
                handle.cancel()

    def _tick(self) -> None:
        self._soon = None
        if self._timer is not None:
            self._timer.cancel()
        self._before_tick()
        try:
            self._ticking.tick()
            due_s = self._ticking.due_in_s()
        except StorageError as error:
            self._fail(error)
            return
        self._timer = self._loop.call_later(due_s, self.wake)
        self._after_tick()

    def _fail(self, error: StorageError) -> None:
        self.stop()
        self._on_failure(error)
