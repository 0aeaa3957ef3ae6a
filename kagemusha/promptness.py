"""Processes that others wait for go before ordinary ones, where that is allowed.

Priorities of real-time threads, so that each can end what the one before does without end: the agents' tracers have 1,
while they keep a program still.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

DAEMON_PRIORITY: Final = 2
WATCHDOG_PRIORITY: Final = 3


def be_prompt() -> None:
    """See `agent.kernel.scheduling.be_prompt`. A container may forbid it: then it is as prompt as others let it be."""
    from agent.errors import KernelError
    from agent.kernel import scheduling

    try:
        scheduling.be_prompt()
    except KernelError as error:
        sys.stderr.write(f"{error.what}\nhint: {error.hint}\n")


def be_punctual(priority: int) -> None:
    """Make this process real-time and its memory locked: for who has a few hundred milliseconds to be heard from.

    A nice value is not enough: with autogroups (sched(7)) it counts only within a session, and in a container only
    within that. Where real time is not allowed, it is prompt at least.
    """
    from agent.errors import KernelError
    from agent.kernel import scheduling

    try:
        scheduling.lock_memory(future=True)
    except KernelError as error:
        sys.stderr.write(f"{error.what}\nhint: {error.hint}\n")
    _be_realtime(priority)


def _be_realtime(priority: int) -> None:
    from agent.errors import KernelError
    from agent.kernel import scheduling

    try:
        scheduling.be_realtime(priority)
    except KernelError:
        be_prompt()


def punctual_workers() -> ThreadPoolExecutor:
    """Threads for the daemon's event loop. One of lesser priority could hold the interpreter while it is not run."""
    return ThreadPoolExecutor(4, "worker", _be_realtime, (DAEMON_PRIORITY,))
