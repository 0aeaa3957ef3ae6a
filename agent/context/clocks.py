"""A program's clocks, read by the agent.

Program and agent may live in different time namespaces (time_namespaces(7)). A deadline that is kept on the program's
own clock stays true after a takeover, because a shadow's clocks go on where the original's were.
"""

from __future__ import annotations

import time

from agent.kernel.namespaces import time_offsets

CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME = 0, 1, 7
CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM = 8, 9

_BASE = {CLOCK_REALTIME_ALARM: CLOCK_REALTIME, CLOCK_BOOTTIME_ALARM: CLOCK_BOOTTIME}


class ProgramClocks:
    """The clocks as process `pid` sees them. Raises KernelError when the process is gone."""

    def __init__(self, pid: int) -> None:
        own, theirs = time_offsets("self"), time_offsets(pid)
        self._ahead_ns = {
            CLOCK_REALTIME: 0,
            CLOCK_MONOTONIC: theirs.monotonic_ns - own.monotonic_ns,
            CLOCK_BOOTTIME: theirs.boottime_ns - own.boottime_ns,
        }

    def now_ns(self, clock: int) -> int:
        """The time on clock number `clock` (clock_gettime(2)); alarm clocks show the time of their base."""
        base = _BASE.get(clock, clock)
        return time.clock_gettime_ns(base) + self._ahead_ns[base]
