"""When changes may be taken, and copies written, so that nobody sees half of one: on an event loop, under a lock, or
only where the program says so.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractContextManager
from typing import Any, Callable


class Explicit:
    """Changes are taken by commit() and publish() alone; a mirror's copy is written at any time."""

    name = "commit"
    is_periodic = False

    def run(self, work: Callable[[], None]) -> None:
        work()


class Locked:
    """While nobody else holds a lock of the program."""

    name = "lock"
    is_periodic = True

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock

    def run(self, work: Callable[[], None]) -> None:
        """Do it in this thread, with the lock."""
        with self._lock:
            work()


class OnLoop:
    """Between two callbacks of an event loop: what a coroutine does without `await` is seen as a whole."""

    name = "loop"
    is_periodic = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def run(self, work: Callable[[], None]) -> None:
        """Have it done on the loop, and wait. Nothing is done when the loop is closed."""
        done = threading.Event()
        errors: list[BaseException] = []

        def on_loop() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        try:
            self.loop.call_soon_threadsafe(on_loop)
        except RuntimeError:  # the loop was closed: nothing of the program runs on it any more
            return
        while not done.wait(0.2):
            if self.loop.is_closed():
                return
        if errors:
            raise errors[0]


class Anytime:
    """At each interval, whatever the program is doing: what it changes in two steps may be seen between them."""

    name = "none"
    is_periodic = True

    def run(self, work: Callable[[], None]) -> None:
        work()
