"""What happens to a traced program, as its tracer reports it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

DeathKind = Literal["killed", "crashed", "terminated", "exited"]

# Signals by which a program's own fault ends it: their default action dumps core (signal(7)), and the kernel or the
# program itself sends them.
_CRASHES = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSYS,
        signal.SIGTRAP,
        signal.SIGXCPU,
        signal.SIGXFSZ,
        signal.SIGSTKFLT,
    }
)


def death_kind(status: int) -> DeathKind:
    """What a wait status says of a death.

    killed: from outside (kill -9, the out-of-memory killer); the state is sound. crashed: of its own; the state is not.
    terminated: another fatal signal, such as an unhandled SIGTERM: somebody meant it. exited: exit(3).
    """
    number = status & 0x7F
    if number == 0:
        return "exited"
    if number == signal.SIGKILL:
        return "killed"
    return "crashed" if number in _CRASHES else "terminated"


@dataclass(frozen=True, slots=True)
class Exited:
    """The program has ended and is reaped. status: as wait(2) gave it."""

    status: int

    @property
    def kind(self) -> DeathKind:
        return death_kind(self.status)


@dataclass(frozen=True, slots=True)
class Dying:
    """A fatal signal has struck, and every thread is held on its way out: memory, registers and descriptors can still
    be read, until `Tracee.release_dying`. status: as `Exited` will give it."""

    status: int

    @property
    def kind(self) -> DeathKind:
        return death_kind(self.status)


@dataclass(frozen=True, slots=True)
class Executed:
    """The program has replaced itself with another (execve(2)): whatever was known of its memory is void."""


@dataclass(frozen=True, slots=True)
class ChildForked:
    """The program has made a child process, which is not followed. pid: host pid."""

    pid: int


ProgramEvent = Exited | Dying | Executed | ChildForked
