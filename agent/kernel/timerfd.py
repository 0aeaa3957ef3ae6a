"""What of timerfd_create(2) Python 3.11 does not have."""

from __future__ import annotations

import ctypes

from agent.kernel.libc import NR, attempt_held, check

_Itimerspec = ctypes.c_int64 * 4


def let_run(descriptor: int) -> None:
    """Let a periodic timer that has expired, and stands still until it is read, count what it missed and run on.

    This is what timerfd_gettime(2) does besides answering. Raises KernelError EINVAL for what is no timer.
    """
    spec = _Itimerspec()
    result = attempt_held(NR.TIMERFD_GETTIME, descriptor, ctypes.addressof(spec))
    check(result, "timerfd_gettime", f"descriptor {descriptor}")
