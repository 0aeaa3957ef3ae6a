"""A program that an agent before this one has left: written down when it starts, and ended before another one does.

A shadow ends with its agent; a warm program does not, and two of them would be in each other's way.
"""

from __future__ import annotations

import os
import select
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
    """Write down which process it is, and the first one of its PID namespace."""
    try:
        ticks = procfs.stat(pid).start_ticks
    except (TraceeGone, KernelError):
        return
    fresh = path.with_suffix(".fresh")
    fresh.write_text(f"{pid} {ticks} {init}\n")
    fresh.rename(path)


def end_leftover(path: Path) -> None:
    """End what is written down there, if it is still that process. Raises ControlError when it does not end."""
    try:
        pid, ticks, init = map(int, path.read_text().split())
        handle = pidfd.open_pidfd(pid)
    except (OSError, ValueError, KernelError):
        return
    try:
        if procfs.stat(pid).start_ticks != ticks:
            return
        log.warning("a program is left of an agent before, and is ended", pid=pid)
        if init != NO_NAMESPACE and procfs.namespace_inode(init, "pid") == procfs.namespace_inode(pid, "pid"):
            os.kill(init, signal.SIGKILL)
        pidfd.send_signal(handle, signal.SIGKILL)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(END_S * 1000):
            raise ControlError(f"process {pid} of an agent before does not end", hint="is it waiting for a disk?")
    except (TraceeGone, ProcessLookupError, KernelError):
        return
    finally:
        os.close(handle)
