"""What a capture function is given: a program whose threads all stand still."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from agent.kernel.register_block import RegisterBlock
from transport.checkpoint import Records


class RemoteCall(Protocol):
    """One injected system call in a stopped thread; see `agent.tracing.remote`."""

    scratch: int

    def __call__(self, number: int, *arguments: int) -> int: ...


@dataclass(slots=True)
class Stopped:
    """A program at a stop.

    pid: the leader's host pid. threads: host tid -> tid in the program's own PID namespace.
    memory: descriptor of /proc/PID/mem, readable at any time. pidfd: of the leader.
    previous: the records of the checkpoint before (empty at the first one).
    dying: every thread stands in PTRACE_EVENT_EXIT; nothing can be injected, the descriptors are still there.
    exact: this is the last checkpoint: nothing may be left to be read more exactly next time.
    remote: opens a scope in which system calls run in the given host tid; must not be used while `dying`.
    refresh: read again what is otherwise re-read only now and then (handlers, alternate stacks).
    block: the registers of all threads, in the order of `threads`, where they have been read at this stop already.
    """

    pid: int
    threads: dict[int, int]
    memory: int
    pidfd: int
    remote: Callable[[int], AbstractContextManager[RemoteCall]]
    previous: Records = field(default_factory=dict)
    dying: bool = False
    exact: bool = True
    refresh: bool = True
    block: RegisterBlock | None = None
