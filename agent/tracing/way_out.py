"""How a traced program ends: which of its threads leave by themselves, which are held, and what is told of it.

A fatal signal strikes every thread. Each stands still once more before it is gone (PTRACE_EVENT_EXIT, ptrace(2)), with
memory, registers and descriptors still there: it is held there until all are, and until somebody has read them.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.kernel import procfs, ptrace
from agent.tracing.program_event import DeathKind, Dying, Exited, ProgramEvent, death_kind
from agent.tracing.thread_table import ThreadTable
from agent.tracing.traced_thread import State, TracedThread


class WayOut:
    """Of one program. tell: takes `Dying`, once, and `Exited`.

    missed: a thread was killed in the microsecond in which it could not be held; of this death no state is complete.
    ended: the program has ended and was reaped.
    """

    def __init__(self, pid: int, threads: ThreadTable, tell: Callable[[ProgramEvent], None]) -> None:
        self.missed = False
        self.ended = False
        self._pid = pid
        self._threads = threads
        self._tell = tell
        self._fatal_status = 0
        self._dying_told = False

    @property
    def is_struck(self) -> bool:
        """Whether a fatal signal has struck."""
        return bool(self._fatal_status)

    @property
    def dying(self) -> DeathKind | None:
        """How the program is dying, from the first thread that is held; None: it lives, or has ended."""
        return death_kind(self._fatal_status) if self._fatal_status and not self.ended else None

    def leave(self, thread: TracedThread) -> bool:
        """A thread stands in PTRACE_EVENT_EXIT: it is let go, or held (True) where a signal has struck it. Raises
        TraceeGone."""
        status = ptrace.event_message(thread.tid)
        is_held = death_kind(status) != "exited"
        if is_held:
            self._threads.put(thread, State.HELD)
            self._fatal_status = status
        else:
            self._threads.put(thread, State.LEAVING)
            ptrace.cont(thread.tid)
        self._tell_dying()
        return is_held

    def lose(self, thread: TracedThread, status: int) -> bool:
        """A thread is gone; True: with it the program has ended, with this wait status."""
        self.missed |= thread.state not in (State.HELD, State.LEAVING)
        self._threads.remove(thread.tid)
        self._tell_dying()
        if thread.tid != self._pid:
            return False
        # The kernel tells the end of the leader after that of all others.
        self._threads.keep_only()
        self.ended = True
        self._tell(Exited(status))
        return True

    def look(self) -> None:
        """A leader that was killed between a stop and its resumption goes by unheld, and is not reported before all
        other threads are gone: see whether it was."""
        if not self._fatal_status or self._dying_told:
            return
        leader = self._threads.get(self._pid)
        if leader is None or leader.state in (State.HELD, State.LEAVING):
            return
        if self._leader_is_zombie():
            self.missed = True
            self._threads.put(leader, State.LEAVING)
            self._tell_dying()

    def forget_zombie(self) -> bool:
        """A leader that has ended before its threads stays in the list until they have ended too; True: it need not be
        waited for any more."""
        leader = self._threads.get(self._pid)
        if leader is None or leader.state is not State.LEAVING or self._pid not in self._threads.moving:
            return False
        if self._leader_is_zombie():
            self._threads.moving.discard(self._pid)
            return True
        return False

    def release(self) -> None:
        """Let every thread that is held die."""
        for thread in self._threads:
            if thread.state is State.HELD:
                ptrace.raw(ptrace.CONT, thread.tid, 0, 0)
                self._threads.put(thread, State.LEAVING)

    def _tell_dying(self) -> None:
        """Once nobody runs any more: those that end by themselves will be gone, all others are held."""
        if self._fatal_status and not self._dying_told and self._threads.all_in(State.HELD, State.LEAVING):
            self._dying_told = True
            self._tell(Dying(self._fatal_status))

    def _leader_is_zombie(self) -> bool:
        return procfs.stat(self._pid, self._pid).state == "Z"
