"""A process as a descriptor (pidfd_open(2)): its id can't be reused behind the agent's back."""

from __future__ import annotations

import os
import signal as signals

from agent.errors import KernelError
from agent.kernel.libc import NR, attempt_held, check


def open_pidfd(pid: int) -> int:
    """A close-on-exec descriptor of process `pid`; readable once the process has ended. Raises KernelError ESRCH."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise KernelError("pidfd_open", f"process {pid}", error.errno or 0) from error


def get_descriptor(pidfd: int, number: int) -> int:
    """A close-on-exec duplicate, in this process, of descriptor `number` of the other (pidfd_getfd(2)).

    It shares the open file description: as long as it is open, a close by the program sends no FIN. Raises KernelError:
    EBADF (no such descriptor), ESRCH, EPERM.
    """
    return check(attempt_held(NR.PIDFD_GETFD, pidfd, number, 0), "pidfd_getfd", f"descriptor {number}")


def try_descriptor(pidfd: int, number: int) -> int:
    """Like `get_descriptor`, but gives a negative errno instead of raising."""
    return attempt_held(NR.PIDFD_GETFD, pidfd, number, 0)


def send_signal(pidfd: int, signal: int) -> bool:
    """Send a signal; False when the process has ended."""
    try:
        signals.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise KernelError(f"pidfd_send_signal {signal}", "a process", error.errno or 0) from error
    return True
