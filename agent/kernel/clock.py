"""What the kernel knows of its wall clock: whether a time service keeps it right (clock_adjtime(2))."""

from __future__ import annotations

import ctypes
import struct
import time
from dataclasses import dataclass
from typing import Final

from agent.kernel.libc import NR, call

_TIMEX_BYTES: Final = 208
_HEAD: Final = struct.Struct("=I4x4qi4x")
"""struct timex (linux/timex.h): modes, offset, freq, maxerror, esterror, status."""
_STA_UNSYNC: Final = 0x0040


@dataclass(frozen=True, slots=True)
class WallClock:
    """synchronised: a time service has said so of late. error_s: how wrong it may be at most; the kernel lets that grow
    by 500 us a second while nobody says anything."""

    synchronised: bool
    error_s: float


def wall_clock() -> WallClock:
    """Ask the kernel; nothing is changed. Raises KernelError where the call is forbidden."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    call(
        NR.CLOCK_ADJTIME,
        time.CLOCK_REALTIME,
        ctypes.addressof(buffer),
        operation="clock_adjtime",
        target="the wall clock",
    )
    _, _, _, error_us, _, status = _HEAD.unpack_from(buffer.raw)
    return WallClock(not status & _STA_UNSYNC, error_us / 1e6)
