"""Do two descriptor numbers stand for the same open file description? (kcmp(2); CONFIG_KCMP)"""

from __future__ import annotations

import ctypes

from agent.kernel.libc import NR, attempt_held, check

_KCMP_FILE = 0
_KCMP_EPOLL_TFD = 7
_ENOENT = 2
_EBADF = 9


class _EpollSlot(ctypes.Structure):
    _fields_ = [("efd", ctypes.c_uint32), ("tfd", ctypes.c_uint32), ("toff", ctypes.c_uint32)]


def order_of_files(pid: int, first: int, second: int) -> int:
    """0 when both numbers of process `pid` are one description; else -1 or 1: a total order that lasts until reboot.

    Raises KernelError: EBADF (a number is not open), EPERM, ESRCH.
    """
    target = f"descriptors {first} and {second} of process {pid}"
    result = check(attempt_held(NR.KCMP, pid, pid, _KCMP_FILE, first, second), "kcmp", target)
    return (0, -1, 1)[result] if result < 3 else 1


def is_epoll_target(pid: int, number: int, epoll: int, registered: int, occurrence: int) -> bool:
    """Whether descriptor `number` is the description that `epoll` watches as `registered`.

    occurrence: the how-manieth entry of that number it is, in the order of fdinfo: a number that was closed while its
    description lived on, and was used again, can stand in an interest list twice. False also when there is no such
    entry.
    """
    slot = _EpollSlot(epoll, registered, occurrence)
    result = attempt_held(NR.KCMP, pid, pid, _KCMP_EPOLL_TFD, number, ctypes.addressof(slot))
    if result in (-_ENOENT, -_EBADF):
        return False
    return check(result, "kcmp", f"descriptor {number} and an entry of epoll {epoll} of process {pid}") == 0
