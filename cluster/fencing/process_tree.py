"""A program without a cgroup, process by process: the lesser fence of a daemon that is not root (signal(7), proc(5)).

A stopped process stays so until anybody who may signal it lets it go on, and a traced one is its tracer's: only what
the kernel calls stopped, and not traced, counts as frozen.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from transport.errors import KagemushaError

_NAP_S: Final = 0.0005
_AT_REST: Final = frozenset("TZX")
"""Stopped, or at its end (proc_pid_stat(5))."""
_TRACED: Final = "t"


class Unseen(KagemushaError):
    """A process can't be looked at now, which is not to say that it is gone."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"{path}: {error.strerror}", hint="has the node memory and descriptors left?")


class ProcessTree:
    """A process and all of its descendants. See `ProgramCgroup`, which does the same for certain.

    Every method may raise Unseen.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def processes(self) -> list[int]:
        """Those that are there now, the first one first."""
        return [self.pid, *descendants(self.pid)]

    def freeze(self) -> None:
        """Begin to stop every process; see `await_frozen`."""
        for pid in self.processes():
            if not _AT_REST.issuperset(_states(pid)):
                _tell(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let every process go on."""
        for pid in self.processes():
            _tell(pid, signal.SIGCONT)

    def is_frozen(self) -> bool:
        """Whether every thread is stopped, and none is traced."""
        return all(_AT_REST.issuperset(_states(pid)) for pid in self.processes())

    def await_frozen(self, limit_s: float) -> bool:
        """Wait for `is_frozen` until `limit_s` of CLOCK_MONOTONIC. Who was made meanwhile is stopped, too. What is
        traced is not waited for."""
        while not self.is_frozen():
            if time.monotonic() >= limit_s or any(_TRACED in _states(pid) for pid in self.processes()):
                return False
            time.sleep(_NAP_S)
            self.freeze()
        return True

    def kill(self) -> None:
        """End every process, stopped or not; they are gone some moments later."""
        self.freeze()  # Who still runs could make others meanwhile.
        for pid in self.processes():
            _tell(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """All processes that this one, or a descendant of it, has made and not outlived (proc(5), task/TID/children).

    Raises Unseen.
    """
    found: list[int] = []
    ahead = [pid]
    while ahead:
        for words in _of_each_thread(ahead.pop(), "children"):
            children = list(map(int, words.split()))
            found += children
            ahead += children
    return found


def _tell(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _states(pid: int) -> list[str]:
    """Of each thread; nothing of one that is gone."""
    return [words.rpartition(")")[2].split()[0] for words in _of_each_thread(pid, "stat")]


def _of_each_thread(pid: int, name: str) -> Iterator[str]:
    """What /proc/PID/task/TID/`name` says, of those that are not gone. Raises Unseen."""
    directory = f"/proc/{pid}/task"
    tasks: list[str] = []
    with _unless_gone(directory):
        tasks = os.listdir(directory)
    for task in tasks:
        with _unless_gone(path := f"{directory}/{task}/{name}"), open(path, encoding="utf-8", errors="replace") as file:
            yield file.read()


@contextmanager
def _unless_gone(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError as error:
        raise Unseen(path, error) from None
