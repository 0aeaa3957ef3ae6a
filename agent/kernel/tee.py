"""What stands in a pipe, without taking it out (tee(2))."""

from __future__ import annotations

import fcntl
import os
import termios

import numpy as np

from agent.kernel.libc import NR, attempt_held, check

_SPLICE_F_NONBLOCK = 2
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
_EAGAIN = 11
_TEE_BYTES_MAX = 1 << 30

_word = np.zeros(1, np.int32)
_word_at = int(_word.ctypes.data)


def capacity_bytes(pipe: int) -> int:
    """How much the pipe behind this end can hold."""
    return check(attempt_held(NR.FCNTL, pipe, _F_GETPIPE_SZ, 0), "F_GETPIPE_SZ", "a pipe of the program")


def waiting_bytes(read_end: int) -> int:
    """How much stands in the pipe."""
    check(attempt_held(NR.IOCTL, read_end, termios.FIONREAD, _word_at), "FIONREAD", "a pipe of the program")
    return int(_word[0])


def peek_pipe(read_end: int, *, packets: bool) -> list[bytes]:
    """Everything that stands in a pipe, which keeps it.

    packets: the pipe is in packet mode (O_DIRECT): one item for each packet; else one item with all bytes, or none.
    Raises KernelError EPERM when a pipe of that capacity may not be made (/proc/sys/fs/pipe-max-size).
    """
    if not waiting_bytes(read_end):
        return []
    out, into = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # Not only as many bytes: as many slots, for each write may have one of its own.
        fcntl.fcntl(into, _F_SETPIPE_SZ, capacity_bytes(read_end))
        taken = attempt_held(NR.TEE, read_end, into, _TEE_BYTES_MAX, _SPLICE_F_NONBLOCK)
        if taken in (0, -_EAGAIN):
            return []
        check(taken, "tee", "a pipe of the program")
        found: list[bytes] = []
        while taken > 0:
            found.append(os.read(out, taken))
            taken -= len(found[-1])
        return found if packets else [b"".join(found)]
    finally:
        os.close(out)
        os.close(into)
