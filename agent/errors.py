"""The errors of the rooms that know processes. errno is translated here and nowhere else."""

from __future__ import annotations

import errno as errno_names
import os

from transport.errors import KagemushaError


class KernelError(KagemushaError):
    """A system call failed.

    `operation`: the call as a person knows it ("ptrace SEIZE"); `target`: what it was done to ("thread 4711");
    `errno`: the number that the kernel gave.
    """

    def __init__(self, operation: str, target: str, errno: int, *, hint: str = "") -> None:
        name = errno_names.errorcode.get(errno, str(errno))
        super().__init__(f"{operation} of {target}: {os.strerror(errno)} ({name})", hint=hint)
        self.operation = operation
        self.target = target
        self.errno = errno


class TraceeGone(KagemushaError):
    """A traced thread no longer exists: a value to be handled, not a surprise (ESRCH)."""

    def __init__(self, tid: int) -> None:
        super().__init__(f"thread {tid} is gone")
        self.tid = tid


class CaptureError(KagemushaError):
    """A checkpoint could not be taken; nothing was lost, the next one may succeed."""


class CheckpointAbandoned(CaptureError):
    """The program could not be stopped or copied before the deadline; what is dirty stays known."""


class RestoreError(KagemushaError):
    """A shadow could not be built, changed or activated."""


class LaunchError(KagemushaError):
    """The program could not be started."""


class Unsupported(KagemushaError):
    """The program uses something that can't be mirrored."""


class StructureError(KagemushaError):
    """A named data structure can't be found, can't be mirrored, or is another one than on the other side."""
