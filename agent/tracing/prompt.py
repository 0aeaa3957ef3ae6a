"""Everything of this agent, and every ordinary thread of this machine, waits while the program stands still.

Three things would make a stop or a takeover long: another thread that has the processor, another thread of the agent
that has the interpreter lock, and the hand-overs between both. So within `Prompt` the tracer thread has real-time
priority, nobody asks it for the lock, and the event loop stands still, so that the lock is free when a system call of
the tracer thread returns.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.errors import KernelError
from agent.kernel import scheduling

PARKED_S_MAX: Final = 0.2
"""So long at most the event loop stands still, whatever becomes of the tracer thread."""
_PARKS_S: Final = 0.002
_UNDIVIDED_S: Final = 0.1
"""Other threads of the agent do not ask for the interpreter lock within this time: no stop takes so long."""


class Prompt:
    """Used in the tracer thread alone, not nested. loop: stands still meanwhile; None: there is none that could."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within this the tracer thread comes first. Where real-time priority is not allowed it has the rest."""
        over = self._park()
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_UNDIVIDED_S)
        is_realtime = _be_realtime()
        try:
            yield
        finally:
            over.set()
            sys.setswitchinterval(interval_s)
            if is_realtime:
                scheduling.be_ordinary()

    def _park(self) -> threading.Event:
        """Let the event loop stand still until what is returned is set; waits a moment for what it is at."""
        over = threading.Event()
        if self._loop is None or self._loop.is_closed():
            return over
        parked = threading.Event()

        def park() -> None:
            parked.set()
            over.wait(PARKED_S_MAX)

        self._loop.call_soon_threadsafe(park)
        parked.wait(_PARKS_S)
        return over


def _be_realtime() -> bool:
    try:
        scheduling.be_realtime()
    except KernelError:
        return False
    return True
