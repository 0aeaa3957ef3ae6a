"""A process as a descriptor (pidfd_open(2)): its id can't be reused behind the agent's back."""

from __future__ import annotations

import fcntl
import os
import select
import signal as signals
import struct
from typing import Final

from agent.errors import KernelError, TraceeGone
from agent.kernel import procfs
from agent.kernel.libc import NR, attempt_held, check

# struct pidfd_info and PIDFD_GET_INFO of include/uapi/linux/pidfd.h: mask first, exit_code at 60; of Linux 6.13, the
# exit code of a process that was reaped of 6.15.
_INFO_BYTES: Final = 64
_GET_INFO: Final = 3 << 30 | _INFO_BYTES << 16 | 0xFF << 8 | 11
_INFO_EXIT: Final = 1 << 3
_EXIT_CODE_AT: Final = 60
_EXIT_CODE_FIELD: Final = 52


def open_pidfd(pid: int) -> int:
    """A close-on-exec descriptor of process `pid`; readable once the process has ended. Raises KernelError ESRCH."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise KernelError("pidfd_open", f"process {pid}", error.errno or 0) from error


def ends(pidfd: int, limit_s: float) -> bool:
    """Wait for the end of a process, for at most `limit_s` seconds: whether it came."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(limit_s * 1000))


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


def exit_status(pidfd: int, pid: int) -> int | None:
    """The wait status of a process that has ended and is another one's child; None: the kernel does not tell any more.

    /proc has it until the process is reaped (proc_pid_stat(5)); after that, from Linux 6.15 on, the descriptor does.
    """
    try:
        found = procfs.stat(pid)
        # The kernel says 0 to whoever may not trace the process: that would be a lie.
        if found.state == "Z" and (os.geteuid() == 0 or set(procfs.status(pid).uids) == {os.geteuid()}):
            return found.field(_EXIT_CODE_FIELD)
    except (TraceeGone, KernelError):
        pass
    info = bytearray(_INFO_BYTES)
    struct.pack_into("Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:
        return None
    is_told = struct.unpack_from("Q", info)[0] & _INFO_EXIT
    return int(struct.unpack_from("i", info, _EXIT_CODE_AT)[0]) if is_told else None
