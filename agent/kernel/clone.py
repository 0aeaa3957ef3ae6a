"""clone3(2): a new process with chosen ids, in chosen namespaces."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Sequence

from agent.kernel.libc import NR, attempt_held, check

# include/uapi/linux/sched.h
CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_PIDFD, CLONE_PTRACE, CLONE_VFORK, CLONE_PARENT = (
    1 << bit for bit in range(8, 16)
)
CLONE_THREAD, CLONE_NEWNS, CLONE_SYSVSEM, CLONE_SETTLS, CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID = (
    1 << bit for bit in range(16, 22)
)
CLONE_UNTRACED, CLONE_CHILD_SETTID, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = (1 << bit for bit in range(23, 28))
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_IO = (1 << bit for bit in range(28, 32))
CLONE_NEWTIME = 0x80
CLONE_CLEAR_SIGHAND = 1 << 32
CLONE_INTO_CGROUP = 1 << 33

ARGUMENTS_BYTES = 88


class CloneArguments(ctypes.Structure):
    """struct clone_args, version 2 (88 bytes)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def clone3(flags: int = 0, *, set_tid: Sequence[int] = (), exit_signal: int = signal.SIGCHLD) -> int:
    """Make a new process; gives its pid as the caller sees it, and 0 in the new process.

    set_tid: the ids that it shall have, innermost PID namespace first. With CLONE_PARENT `exit_signal` must be 0 (the
    caller's own is used). The interpreter knows nothing of the new process: call this only in a process with a single
    thread, and do little in the child before exec or _exit. Raises KernelError: EEXIST (tid taken), EPERM, EINVAL,
    EAGAIN.
    """
    arguments = CloneArguments(flags=flags, exit_signal=exit_signal)
    if set_tid:
        # Kept alive by this name until the call is over.
        tids = (ctypes.c_int * len(set_tid))(*set_tid)
        arguments.set_tid = ctypes.addressof(tids)
        arguments.set_tid_size = len(set_tid)
    # The child of a call that gave the interpreter lock away would wait for the lock for ever.
    result = attempt_held(NR.CLONE3, ctypes.addressof(arguments), ARGUMENTS_BYTES)
    return check(result, "clone3", f"a new process with id {list(set_tid)}" if set_tid else "a new process")
