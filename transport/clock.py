"""The clock by which leases, deadlines and silences are counted: it goes on during a suspend (clock_gettime(2))."""

from __future__ import annotations

import time


def boottime_s() -> float:
    """CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boottime_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
