"""Load that wants all of every CPU: of ordinary processes, or of real-time ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from kagemusha.promptness import DAEMON_PRIORITY

Load = Literal["niced", "ordinary", "realtime"]
LOADS: tuple[Load, ...] = ("niced", "ordinary", "realtime")
NICENESS = 10
REALTIME_PRIORITY = DAEMON_PRIORITY - 1
"""Who has the daemons' own priority, or more, takes the CPU from them; nothing of ours can do anything about that."""


@contextmanager
def saturated(load: Load) -> Iterator[None]:
    """Two processes for each CPU, which want all of it; of real-time ones one, which has it."""
    each = 1 if load == "realtime" else 2
    pids = [_burn(load, cpu) for cpu in sorted(os.sched_getaffinity(0)) for _ in range(each)]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, 9)
        for pid in pids:
            os.waitpid(pid, 0)


def _burn(load: Load, cpu: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if load == "realtime":
            os.sched_setaffinity(0, {cpu})
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REALTIME_PRIORITY))
        else:
            os.nice(NICENESS if load == "niced" else 0)
        while True:
            pass
    finally:
        os._exit(1)
