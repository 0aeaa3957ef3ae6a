"""Waiting for tracees and children, and what a wait status means (wait(2), ptrace(2)).

Who reaps what: every wait here is made with `__WALL | __WNOTHREAD`, so that it sees the tracees of the calling thread
and the children that this thread itself forked, and never takes a status that another thread of the agent waits for.
A tracee that is also a child of the agent is reaped by whoever waits first; while it is traced, nobody but its tracer
thread may wait for it.

The polls share one status word: an agent has one tracer thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from dataclasses import dataclass

from agent.errors import KernelError, TraceeGone
from agent.kernel import pidfd
from agent.kernel.libc import FREE, HELD, get_errno

WNOHANG = 1
WALL = 0x4000_0000
WNOTHREAD = 0x2000_0000

# Events of a ptrace-stop, status >> 16 (include/uapi/linux/ptrace.h).
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_VFORK_DONE, EVENT_EXIT, EVENT_SECCOMP = range(1, 8)
EVENT_STOP = 128

_STOP_SIGNALS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

_WHO_KEEPS = (
    "it waits for a disk, or, as process 1 of a PID namespace, for a process there whose parent does not reap it:"
    " ps -eo pid,ppid,stat,wchan:20,comm"
)

_status = ctypes.c_int()
_status_pointer = ctypes.addressof(_status)


def _wait4_of(library: ctypes.CDLL) -> ctypes._NamedFuncPointer:
    function = library["wait4"]
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    return function


_free_wait4 = _wait4_of(FREE)
_held_wait4 = _wait4_of(HELD)

_sigtimedwait_held = HELD["sigtimedwait"]
_sigtimedwait_held.restype = ctypes.c_int
_sigtimedwait_held.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
_child_set = (ctypes.c_uint64 * 16)(1 << (signal.SIGCHLD - 1))
_timeout = (ctypes.c_int64 * 2)()


@dataclass(frozen=True, slots=True)
class StopEvent:
    """What wait(2) said of one thread.

    tid: host tid. status: the raw status. A thread either has ended (`exited`) or is stopped; of a stop, `event` is
    the ptrace event or 0 for the delivery of `signal`, and `signal` is what the kernel names as the stopping signal.
    """

    tid: int
    status: int

    @property
    def stopped(self) -> bool:
        return (self.status & 0xFF) == 0x7F

    @property
    def exited(self) -> bool:
        return (self.status & 0xFF) != 0x7F

    @property
    def event(self) -> int:
        return self.status >> 16

    @property
    def signal(self) -> int:
        return (self.status >> 8) & 0xFF

    @property
    def is_interrupt(self) -> bool:
        """The stop that PTRACE_INTERRUPT asked for, or the first stop of an auto-attached thread, or the end of a
        group stop."""
        return self.status >> 8 == (EVENT_STOP << 8 | signal.SIGTRAP)

    @property
    def is_group_stop(self) -> bool:
        """SIGSTOP or a kin of it stopped the program as a whole (job control)."""
        return self.event == EVENT_STOP and self.signal in _STOP_SIGNALS

    @property
    def is_signal_delivery(self) -> bool:
        """A signal is about to be delivered; it waits for PTRACE_CONT to carry it on."""
        return self.stopped and self.event == 0

    @property
    def exit_code(self) -> int:
        """As subprocess does: the status of exit(3), or the negative number of the signal that killed."""
        return os.waitstatus_to_exitcode(self.status)

    def __str__(self) -> str:
        return f"thread {self.tid}: status {self.status:#x}"


def poll_any() -> StopEvent | None:
    """The next event of any tracee or child of this thread, without waiting; None when there is none (or nothing to
    wait for)."""
    tid: int = _held_wait4(-1, _status_pointer, WNOHANG | WALL | WNOTHREAD, None)
    return StopEvent(tid, _status.value) if tid > 0 else None


def poll_raw() -> tuple[int, int]:
    """Like `poll_any` for the hottest loop: (tid, status), (0, 0) when nothing is there, (-1, 0) when there is nobody
    to wait for."""
    tid: int = _held_wait4(-1, _status_pointer, WNOHANG | WALL | WNOTHREAD, None)
    return (tid, _status.value) if tid > 0 else (tid, 0)


def poll(tid: int) -> StopEvent | None:
    """The next event of thread `tid`, without waiting; None when there is none. Raises TraceeGone when there is no
    such tracee."""
    found: int = _held_wait4(tid, _status_pointer, WNOHANG | WALL | WNOTHREAD, None)
    if found < 0:
        raise TraceeGone(tid)
    return StopEvent(found, _status.value) if found else None


def wait_for(tid: int) -> StopEvent:
    """Wait for the next event of thread `tid`, without a deadline; raises TraceeGone when there is no such tracee or
    child."""
    status = ctypes.c_int()
    while True:
        found: int = _free_wait4(tid, ctypes.addressof(status), WALL | WNOTHREAD, None)
        if found > 0:
            return StopEvent(found, status.value)
        failure = get_errno()
        if failure == errno.ECHILD:
            raise TraceeGone(tid)
        if failure != errno.EINTR:
            raise KernelError("wait4", f"thread {tid}", failure)


def reap(pid: int, limit_s: float | None = None) -> int | None:
    """Wait for the end of `pid`, a child of any thread of the agent that nobody traces; gives its raw status, None if
    there was none.

    Raises KernelError ETIMEDOUT when it has not ended within `limit_s`; None: however long that takes.
    """
    try:
        found, status = os.waitpid(pid, WALL | os.WNOHANG)
        if not found:
            if limit_s is not None and not _ends(pid, limit_s):
                raise KernelError("wait4", f"process {pid}", errno.ETIMEDOUT, hint=_WHO_KEEPS)
            _, status = os.waitpid(pid, WALL)
    except ChildProcessError:
        return None
    return status


def _ends(pid: int, limit_s: float) -> bool:
    """Whether a child that nobody else reaps ends within this time."""
    descriptor = pidfd.open_pidfd(pid)
    try:
        return pidfd.ends(descriptor, limit_s)
    finally:
        os.close(descriptor)


def await_child_signal(timeout_s: float) -> bool:
    """Sleep until a SIGCHLD comes, for at most `timeout_s`, with the interpreter lock held: whether one came.

    SIGCHLD must be blocked in every thread of the agent (pthread_sigmask(3)); otherwise this only sleeps.
    """
    _timeout[0], _timeout[1] = divmod(max(0, int(timeout_s * 1e9)), 1_000_000_000)
    result: int = _sigtimedwait_held(ctypes.addressof(_child_set), None, ctypes.addressof(_timeout))
    return result == signal.SIGCHLD


def await_child_signal_free(timeout_s: float) -> bool:
    """Like `await_child_signal`, while other Python threads run."""
    return signal.sigtimedwait({signal.SIGCHLD}, max(0.0, timeout_s)) is not None


def who_takes_child_signals() -> list[int]:
    """The tids of this process's threads that do not block SIGCHLD: each of them may take one that a tracer waits
    for."""
    taking = []
    for name in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{name}/status", encoding="ascii", errors="replace") as file:
            blocked = next(int(line.split()[1], 16) for line in file if line.startswith("SigBlk:"))
        if not blocked & 1 << (signal.SIGCHLD - 1):
            taking.append(int(name))
    return sorted(taking)
