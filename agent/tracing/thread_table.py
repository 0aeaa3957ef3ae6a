"""The threads of a traced program, and which of them still move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.errors import KernelError, TraceeGone
from agent.kernel import procfs
from agent.tracing.traced_thread import MOVING, State, TracedThread


class ThreadTable:
    """Host tid -> TracedThread. `moving` holds the tids that are not at a stand; change states with `put` alone."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._threads: dict[int, TracedThread] = {}
        self._numbers: dict[int, int] | None = None
        self.moving: set[int] = set()

    def __len__(self) -> int:
        return len(self._threads)

    def __contains__(self, tid: int) -> bool:
        return tid in self._threads

    def __iter__(self) -> Iterator[TracedThread]:
        return iter(self._threads.values())

    def get(self, tid: int) -> TracedThread | None:
        return self._threads.get(tid)

    def state(self, tid: int) -> State:
        return self._threads[tid].state

    def add(self, tid: int, number: int | None = None) -> TracedThread:
        """A new thread, which runs as far as is known."""
        thread = self._threads[tid] = TracedThread(tid, State.RUNNING, number)
        self.moving.add(tid)
        self._numbers = None
        return thread

    def put(self, thread: TracedThread, state: State) -> None:
        """A thread's new state."""
        if State.LEAVING in (state, thread.state):
            self._numbers = None
        thread.state = state
        if state in MOVING:
            self.moving.add(thread.tid)
        else:
            self.moving.discard(thread.tid)

    def remove(self, tid: int) -> None:
        """A thread that is gone."""
        del self._threads[tid]
        self.moving.discard(tid)
        self._numbers = None

    def keep_only(self, threads: Iterable[TracedThread] = ()) -> None:
        """All other threads are gone; those that stay, run."""
        self._threads = {thread.tid: thread for thread in threads}
        self.moving = set(self._threads)
        self._numbers = None

    def all_in(self, *states: State) -> bool:
        return all(thread.state in states for thread in self._threads.values())

    def any_in(self, *states: State) -> bool:
        return any(thread.state in states for thread in self._threads.values())

    def numbers(self) -> dict[int, int]:
        """Host tid -> id in the program's PID namespace of every thread that is not ending by itself, ascending."""
        if self._numbers is None:
            living = (thread for thread in self._threads.values() if thread.state is not State.LEAVING)
            self._numbers = {
                thread.tid: self._number(thread) for thread in sorted(living, key=lambda thread: thread.tid)
            }
        return self._numbers

    def who_moves(self) -> str:
        """Words for how many threads did not stop, and where in the kernel the first of them is."""
        tid = min(self.moving)
        try:
            where = procfs.read_text(self._pid, "wchan", tid)
        except (TraceeGone, KernelError):
            where = "0"
        place = f" (in {where})" if where not in ("", "0") else ""
        return f"{len(self.moving)} of {len(self)} threads did not stop, thread {tid}{place}"

    def _number(self, thread: TracedThread) -> int:
        if thread.number is None:
            thread.number = procfs.namespace_tid(self._pid, thread.tid)
        return thread.number
