"""The list of robust futexes that a thread holds (get_robust_list(2)): read from outside, without stopping it."""

from __future__ import annotations

import ctypes

from agent.errors import KernelError, TraceeGone
from agent.kernel.libc import NR, attempt_held

_ESRCH = 3

_head = ctypes.c_uint64()
_length = ctypes.c_uint64()
_head_pointer = ctypes.addressof(_head)
_length_pointer = ctypes.addressof(_length)


def robust_list(tid: int) -> tuple[int, int]:
    """Address of the list head in thread `tid` (host tid), 0 for none, and the length that it was registered with.

    Raises TraceeGone, and KernelError EPERM. Only one thread of the agent may use this (the tracer).
    """
    result = attempt_held(NR.GET_ROBUST_LIST, tid, _head_pointer, _length_pointer)
    if result == -_ESRCH:
        raise TraceeGone(tid)
    if result < 0:
        raise KernelError("get_robust_list", f"thread {tid}", -result)
    return _head.value, _length.value
