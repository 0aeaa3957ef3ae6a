"""A program that an agent before this one has left: written down when it starts, and ended before another one does.

A shadow ends with its agent; a warm program does not, and two of them would be in each other's way.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Final

import structlog

from agent.errors import KernelError, TraceeGone
from agent.kernel import pidfd, procfs
from agent.launch.spawn_request import NO_NAMESPACE
from transport.errors import ControlError

log = structlog.get_logger()

END_S: Final = 10.0


def remember(path: Path, pid: int, init: int) -> None:
    """Write down which process it is, and the first one of its PID namespace. Raises KernelError, ControlError."""
    try:
        ticks = procfs.stat(pid).start_ticks
    except TraceeGone:
        return
    fresh = path.with_suffix(".fresh")
    try:
        fresh.write_text(f"{pid} {ticks} {init}\n")
        fresh.rename(path)
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror}", hint="is the disk full?") from None


def end_leftover(path: Path) -> None:
    """End what is written down there, if it is still that process.

    Raises ControlError when it does not end, or that file can't be read; KernelError when it can't be looked at.
    """
    try:
        pid, ticks, init = map(int, path.read_text().split())
    except (FileNotFoundError, ValueError):
        return
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror}", hint="it tells what an agent before has left") from None
    try:
        handle = pidfd.open_pidfd(pid)
    except KernelError as error:
        if error.errno == errno.ESRCH:
            return
        raise
    try:
        if procfs.stat(pid).start_ticks != ticks:
            return
        log.warning("a program is left of an agent before, and is ended", pid=pid)
        if init != NO_NAMESPACE and procfs.namespace_inode(init, "pid") == procfs.namespace_inode(pid, "pid"):
            os.kill(init, signal.SIGKILL)
        pidfd.send_signal(handle, signal.SIGKILL)
        if not pidfd.ends(handle, END_S):
            raise ControlError(f"process {pid} of an agent before does not end", hint="is it waiting for a disk?")
    except (TraceeGone, ProcessLookupError):
        return
    finally:
        os.close(handle)
