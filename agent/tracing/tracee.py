"""One program as its tracer sees it: seized, stopped as a whole, resumed, and watched in between.

A thread counts as stopped only in PTRACE_EVENT_STOP, where no signal and no half-done clone is in its hands: whatever
else stops it (the delivery of a signal, the report of a birth) is completed first, under a pending PTRACE_INTERRUPT, so
that it stops again before it executes a single instruction of its own. What a stop interrupts is made to go on by
`agent.tracing.restart`. Children of the program are not followed: they are let go at once, and counted.

All of this happens in one OS thread. SIGCHLD should be blocked in the whole process (`agent.kernel.wait`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from agent.errors import CheckpointAbandoned, TraceeGone
from agent.kernel import pidfd, procfs, ptrace, wait
from agent.kernel.lent_priority import LentPriority
from agent.kernel.register_block import RegisterBlock
from agent.kernel.wait import StopEvent
from agent.tracing.attaching import attach
from agent.tracing.program_event import ChildForked, DeathKind, Executed, ProgramEvent
from agent.tracing.remote import CALL_DEADLINE_S, Remote, syscall_instruction
from agent.tracing.repair import Repair
from agent.tracing.restart import RestartTable
from agent.tracing.socket_timeout import socket_timeout
from agent.tracing.thread_table import ThreadTable
from agent.tracing.traced_memory import TracedMemory
from agent.tracing.traced_thread import State, TracedThread
from agent.tracing.way_out import WayOut

OPTIONS = (
    ptrace.TRACECLONE | ptrace.TRACEFORK | ptrace.TRACEVFORK | ptrace.TRACEEXEC | ptrace.TRACEEXIT | ptrace.TRACESYSGOOD
)

_HELD_WAIT_S = 0.002
_PROMPT_S = 0.000_1
"""A thread that has a processor stops sooner than that."""
_NAP_S = 0.001
_STOPPED = 0x80057F


class Tracee:
    """A program, seized with `seize` while it runs, or taken over with `adopt` from a shadow that this thread traces.

    clock: the program's CLOCK_MONOTONIC in nanoseconds; the agent's own, unless they are in different time namespaces.
    children_forked: how many children the program has made. abandoned: how many stops did not succeed. remote_scopes:
    how often `remote` was called.
    block: the registers of all threads in the order of `threads`, as of the last stop.
    """

    def __init__(self, pid: int, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.pid = pid
        self._memory = TracedMemory(pid)
        self.pidfd = pidfd.open_pidfd(pid)
        self._tasks = procfs.TaskDirectory(pid)
        self.block = RegisterBlock()
        self.restarts = RestartTable(clock, self._memory.read, self._memory.write, self._socket_timeout)
        self.children_forked = 0
        self.remote_scopes = 0
        self.abandoned = 0
        self._threads = ThreadTable(pid)
        self._events: list[ProgramEvent] = []
        self._way_out = WayOut(pid, self._threads, lambda event: self._events.append(event))
        self._repair = Repair(self.block, self.restarts)
        self._stopping = False
        self._disturbance = ""
        self._instruction: int | None = None
        self._lent: dict[int, Remote] = {}
        self._priority = LentPriority()

    # ---- being attached

    def seize(self, options: int = OPTIONS) -> None:
        """Attach to every thread of the running program. Raises TraceeGone; KernelError EPERM: already traced, or no
        right."""
        self._options = options
        while self._discover():
            pass

    def adopt(self, threads: Mapping[int, int], options: int = OPTIONS) -> None:
        """Take over a program that this thread traces already, all of whose threads are in a ptrace-stop.

        threads: host tid -> its id in the program's PID namespace. Turns EXITKILL off, and leaves every thread in the
        stop from which `resume` lets it go.
        """
        self._options = options
        for tid, number in threads.items():
            # Clears what a single step may have left behind (the trap flag outlives a tracer).
            ptrace.interrupt(tid)
            ptrace.cont(tid)
            self._threads.add(tid, number)
        self._stopping = True
        self._await_all(time.monotonic() + CALL_DEADLINE_S)
        for tid in threads:
            ptrace.set_options(tid, options)

    def detach(self) -> None:
        """Let the stopped program go for good; it runs on, untraced."""
        for thread in self._threads:
            if thread.state in (State.STOPPED, State.GROUP_STOPPED):
                try:
                    ptrace.detach(thread.tid)
                except TraceeGone:
                    pass
        self._threads.keep_only()
        self._stopping = False

    def close(self) -> None:
        """Close the descriptors held of the program; does not detach."""
        self._memory.close()
        os.close(self.pidfd)
        self._tasks.close()

    # ---- what is known

    @property
    def threads(self) -> dict[int, int]:
        """Host tid -> id in the program's PID namespace of every thread that is not ending by itself; ascending by
        tid."""
        return self._threads.numbers()

    @property
    def memory(self) -> int:
        """The descriptor of its /proc/PID/mem."""
        return self._memory.file

    @property
    def attached(self) -> bool:
        """Whether there is a thread, be it one that is ending, that this traces."""
        return len(self._threads) > 0

    @property
    def stopped(self) -> bool:
        """Whether the program stands still since a successful `stop`."""
        return self._stopping and not self._threads.moving

    @property
    def group_stopped(self) -> bool:
        """Whether a signal (SIGSTOP, SIGTSTP ...) has stopped the program, apart from any stop of ours."""
        return self._threads.any_in(State.GROUP_STOPPED, State.LISTENING)

    @property
    def dying(self) -> DeathKind | None:
        """How the program is dying, from the first thread that is held on its way out; None: it lives, or has ended."""
        return self._way_out.dying

    @property
    def ended(self) -> bool:
        """Whether the program has ended and was reaped."""
        return self._way_out.ended

    @property
    def missed(self) -> bool:
        """Whether a thread was killed in the microsecond in which it could not be held: of this death no state is
        complete."""
        return self._way_out.missed

    # ---- stopping and resuming

    def stop(self, deadline_s: float) -> None:
        """Bring every thread to a stand, repair the calls that this interrupted, and read all registers into `block`.

        deadline_s: second of CLOCK_MONOTONIC. Raises CheckpointAbandoned, with the program running again, when a thread
        did not stop by then (it waits for a vfork child, or for a disk), or when the program ended or replaced itself.
        """
        self._drain()
        self._stopping = True
        self._disturbance = "it has ended" if self.ended else "it is dying" if self._way_out.is_struck else ""
        try:
            for tid in tuple(self._threads.moving):
                self._interrupt(tid)
            try:
                self._await_all(deadline_s)
            finally:
                self._priority.take_back()
            self._repair.read(list(self.threads))
        except (CheckpointAbandoned, TraceeGone) as error:
            self.abandoned += 1
            # A stop that comes to nothing has interrupted calls all the same.
            self._repair_stopped()
            self.resume()
            if isinstance(error, TraceeGone):
                raise CheckpointAbandoned(f"program {self.pid}: {error.what} in the middle of a stop") from error
            raise

    def resume(self) -> None:
        """Let every stopped thread run on."""
        self._stopping = False
        # Who was killed meanwhile stands on its way out already, and would be let go from there, unheld.
        self._drain()
        request = ptrace.raw
        for thread in self._threads:
            # A thread that was killed meanwhile is gone (ESRCH), and its death will be told.
            if thread.state is State.STOPPED:
                request(ptrace.CONT, thread.tid, 0, 0)
                self._threads.put(thread, State.RUNNING)
            elif thread.state is State.GROUP_STOPPED:
                request(ptrace.LISTEN, thread.tid, 0, 0)
                self._threads.put(thread, State.LISTENING)

    def pump(self) -> list[ProgramEvent]:
        """Handle everything that the running program's threads have waiting, without blocking; what has happened since
        the last call, in order."""
        self._drain()
        self._way_out.look()
        events, self._events = self._events, []
        return events

    def prepare_remote(self) -> None:
        """Find out, while the program may run, what `remote` needs to know of it."""
        if self._instruction is None:
            self._instruction = syscall_instruction(self.pid, self.memory)

    def remote(self, tid: int, deadline_s: float = CALL_DEADLINE_S) -> Remote:
        """A scope for system calls in the stopped thread `tid`; see `Remote`."""
        self.prepare_remote()
        self.remote_scopes += 1
        return Remote(
            tid,
            memory=self.memory,
            instruction=self._instruction or 0,
            options=self._options,
            on_trouble=self._remote_trouble,
            priority=self._priority,
            deadline_s=deadline_s,
        )

    def read_dying(self) -> None:
        """Read the registers of all threads that are held on their way out into `block`, in the order of `threads`.

        They are as the fatal signal found them: see `agent.tracing.restart.suspect`. Raises TraceeGone.
        """
        tids = list(self.threads)
        self.block.read(tids)
        for row, tid in enumerate(tids):
            if (remote := self._lent.get(tid)) is not None:
                self.block.registers[row] = remote.registers
            # What was known of its call at the last stop may be of an earlier one.
            self.restarts.note(tid, self.block.registers[row].copy())

    def release_dying(self) -> None:
        """Let a program that is held on its way out die; its end will be told by `pump`."""
        self._way_out.release()

    # ---- the events

    def _drain(self) -> None:
        while (found := wait.poll_raw())[0] > 0:
            self._handle(StopEvent(*found))

    def _handle(self, event: StopEvent) -> None:
        thread = self._threads.get(event.tid)
        if thread is None and (thread := self._meet(event)) is None:
            return
        if event.exited:
            self._lose(thread, event.status)
            return
        if event.tid in self._lent and event.event != wait.EVENT_EXIT:
            self._lent.pop(event.tid).restore()
            self._stand(thread, group=False)
            return
        try:
            self._handle_stop(thread, event)
        except TraceeGone:
            # Killed between its stop and our answer; the next event tells.
            self._threads.put(thread, State.RUNNING)

    def _handle_stop(self, thread: TracedThread, event: StopEvent) -> None:
        match event.event:
            case wait.EVENT_EXIT:
                if self._way_out.leave(thread):
                    self._disturbance = "a fatal signal has struck it"
            case wait.EVENT_EXEC:
                self._become_another(thread)
            case wait.EVENT_CLONE:
                self._expect(ptrace.event_message(thread.tid))
                self._go_on(thread)
            case wait.EVENT_FORK | wait.EVENT_VFORK:
                self.children_forked += 1
                self._events.append(ChildForked(ptrace.event_message(thread.tid)))
                self._go_on(thread)
            case wait.EVENT_STOP:
                self._stand(thread, group=event.is_group_stop)
            case 0 if event.signal & 0x80:
                # The late end of an injected call.
                self._go_on(thread)
            case 0:
                # Repaired first: a handler turns -ERESTARTNOHAND into the EINTR that is due; an ignored signal must
                # not.
                self._repair.one(thread.tid)
                self._go_on(thread, event.signal)
            case _:
                self._go_on(thread)

    def _meet(self, event: StopEvent) -> TracedThread | None:
        """An event of a thread that is not known: born a moment ago, or it belongs to a child of the program."""
        if event.exited:
            return None
        if procfs.has_task(self.pid, event.tid):
            return self._threads.add(event.tid)
        try:
            ptrace.detach(event.tid, event.signal if event.is_signal_delivery else 0)
        except TraceeGone:
            pass
        return None

    def _expect(self, tid: int) -> None:
        """A birth is reported; the new thread may have come and gone before that."""
        if tid not in self._threads and procfs.has_task(self.pid, tid):
            self._threads.add(tid)

    def _stand(self, thread: TracedThread, *, group: bool) -> None:
        if self._stopping:
            self._threads.put(thread, State.GROUP_STOPPED if group else State.STOPPED)
        elif group:
            ptrace.listen(thread.tid)
            self._threads.put(thread, State.LISTENING)
        else:
            # A stop that came too late, or the end of a group stop: it has interrupted the thread's call all the same.
            self._repair.one(thread.tid)
            ptrace.cont(thread.tid)
            self._threads.put(thread, State.RUNNING)

    def _go_on(self, thread: TracedThread, signal: int = 0) -> None:
        """Let a thread complete what it was stopped for; while the program is being stopped, no further than that."""
        if self._stopping:
            ptrace.interrupt(thread.tid)
        ptrace.cont(thread.tid, signal)
        self._threads.put(thread, State.RUNNING)

    def _lose(self, thread: TracedThread, status: int) -> None:
        self._lent.pop(thread.tid, None)
        self.restarts.forget(thread.tid)
        if self._way_out.lose(thread, status):
            self._disturbance = "it has ended"

    def _become_another(self, thread: TracedThread) -> None:
        """All other threads are gone, and the one that called execve(2) has the leader's id now."""
        self._threads.keep_only([thread])
        self._instruction = None
        self._lent.clear()
        self.restarts.forget_all()
        self._memory.reopen()
        self._disturbance = "it has replaced itself (execve)"
        self._events.append(Executed())
        self._go_on(thread)

    # ---- helpers of stop()

    def _await_all(self, deadline_s: float) -> None:
        begun_s = time.monotonic()
        while True:
            if self._disturbance:
                raise CheckpointAbandoned(f"program {self.pid}: {self._disturbance}")
            if not self._threads.moving:
                if not self._discover():
                    return
                continue
            # Before the look: who was kept from running until after the deadline still looks once.
            now_s = time.monotonic()
            tid, status = wait.poll_raw()
            if tid > 0:
                thread = self._threads.get(tid)
                if thread is not None and status == _STOPPED and tid not in self._lent:
                    # What nearly always comes.
                    self._threads.put(thread, State.STOPPED)
                else:
                    self._handle(StopEvent(tid, status))
                continue
            if self._way_out.forget_zombie():
                continue
            if now_s >= deadline_s:
                what = f"program {self.pid}: {self._threads.who_moves()}"
                raise CheckpointAbandoned(what, hint="it will be tried again")
            if now_s < begun_s + _PROMPT_S:
                wait.await_child_signal(_PROMPT_S)
                continue
            for moving in self._threads.moving:
                self._priority.lend(moving)
            # In the first moment it would cost more to get the interpreter lock back than others could use it for.
            nap = wait.await_child_signal if now_s < begun_s + _HELD_WAIT_S else wait.await_child_signal_free
            nap(_NAP_S)

    def _discover(self) -> bool:
        """Attach to threads that are not known (born by a clone that is hidden from tracers, or before the seizure)."""
        if self._tasks.count() == len(self._threads):
            return False
        found = set(procfs.tasks(self.pid))
        known = {thread.tid for thread in self._threads}
        for tid in found - known:
            self._attach(tid)
        for tid in known - found:
            self._threads.remove(tid)
        return True

    def _attach(self, tid: int) -> None:
        if not attach(self.pid, tid, self._options):
            return
        self._threads.add(tid)
        if self._stopping:
            self._interrupt(tid)

    def _interrupt(self, tid: int) -> None:
        if self._threads.state(tid) is not State.LEAVING:
            # Gone (ESRCH): its end will be told.
            ptrace.raw(ptrace.INTERRUPT, tid, 0, 0)

    def _repair_stopped(self) -> None:
        for thread in self._threads:
            if thread.state is State.STOPPED:
                try:
                    self._repair.one(thread.tid)
                except TraceeGone:  # its death will be told
                    pass

    # ---- small things

    def _remote_trouble(self, remote: Remote, event: StopEvent | None) -> None:
        if (thread := self._threads.get(remote.tid)) is None:
            return
        self._lent[remote.tid] = remote
        self._threads.put(thread, State.RUNNING)
        if event is not None:
            self._handle(event)

    def _socket_timeout(self, descriptor: int, receiving: bool) -> float | None:
        return socket_timeout(self.pidfd, descriptor, receiving)
