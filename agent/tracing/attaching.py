"""Attaching to a thread of a program, which may be attached to this tracer since its birth."""

from __future__ import annotations

import threading

from agent.errors import KernelError, TraceeGone
from agent.kernel import procfs, ptrace

_EPERM = 1


def attach(pid: int, tid: int, options: int) -> bool:
    """Seize a thread of process `pid` for the calling thread, unless that was done at its birth; False: it is gone.

    Raises KernelError EPERM: traced by another, or no right.
    """
    try:
        try:
            ptrace.seize(tid, options)
        except KernelError as error:
            if error.errno != _EPERM or not _is_attached(pid, tid):
                raise
    except TraceeGone:
        return False
    return True


def _is_attached(pid: int, tid: int) -> bool:
    """After EPERM: attached to this tracer at its birth. Raises TraceeGone for a thread that has just ended."""
    status = procfs.status(pid, tid)
    if status.state in "ZX" and tid != pid:
        raise TraceeGone(tid)
    return status.tracer == threading.get_native_id()
