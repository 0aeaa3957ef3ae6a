"""Calls that a stop has interrupted go on as if nothing had happened; and in another process, after a takeover.

Most calls that a ptrace-stop interrupts are restarted by the kernel itself. Some are not (signal(7), "Interruption of
system calls and library functions by stop signals"): they return EINTR, which the program would not have seen without
the stop. For those, -EINTR is replaced with -ERESTARTNOHAND before the thread runs on: the kernel then restarts the
call, unless a handler really runs, in which case the program gets its EINTR after all.

A restarted call would begin its timeout anew, so that the time that is left is put in its place. To recognise at the
next stop that this still is the same call, a mark is left in a register that the kernel does not look at:
- a timeout in milliseconds is an int: its register's upper half is free, and so is that of a descriptor's number;
- a timeout behind a pointer is replaced with one below the stack's red zone, where nothing is kept.
Code after a system call is taken not to look at the registers that carried those two arguments; C libraries don't.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.kernel import registers as r
from agent.kernel.libc import NR, signed

Registers = NDArray[np.uint64]
Writes = list[tuple[int, bytes]]

_LOW_HALF = 0xFFFF_FFFF
_SECOND_NS = 1_000_000_000
_TIMESPEC = struct.Struct("<qq")
# Below the red zone, and out of the way of `Remote`'s own scratch memory.
_TIMESPEC_BELOW_STACK = r.RED_ZONE_BYTES + 64
_EINPROGRESS = 115
_TIMER_ABSTIME = 1
_FUTEX_COMMAND = 0x7F
_FUTEX_WAIT = 0

_RESTARTED = frozenset({-r.ERESTARTSYS, -r.ERESTARTNOINTR, -r.ERESTARTNOHAND, -r.ERESTART_RESTARTBLOCK})


class Timeout(Enum):
    """How a call is told its timeout."""

    NONE = "none"
    MILLISECONDS = "an int"
    TIMESPEC = "a pointer to a timespec"
    RECEIVE = "SO_RCVTIMEO of its socket"
    SEND = "SO_SNDTIMEO of its socket"


@dataclass(frozen=True, slots=True)
class _Call:
    """timeout: its kind; register: where the timeout, or the socket, is passed; expired: what it returns when time is
    up (needed for sockets only: the others find out themselves, being restarted with no time left)."""

    timeout: Timeout
    register: int = r.RDI
    expired: int = 0


_RECEIVE = _Call(Timeout.RECEIVE, expired=-r.EAGAIN)
_SEND = _Call(Timeout.SEND, expired=-r.EAGAIN)

# The calls that give EINTR after a stop, although no handler has run.
_INTERRUPTED: dict[int, _Call] = {
    NR.EPOLL_WAIT: _Call(Timeout.MILLISECONDS, r.R10),
    NR.EPOLL_PWAIT: _Call(Timeout.MILLISECONDS, r.R10),
    NR.EPOLL_PWAIT2: _Call(Timeout.TIMESPEC, r.R10),
    NR.RT_SIGTIMEDWAIT: _Call(Timeout.TIMESPEC, r.RDX),
    NR.SEMTIMEDOP: _Call(Timeout.TIMESPEC, r.R10),
    NR.IO_GETEVENTS: _Call(Timeout.TIMESPEC, r.R8),
    NR.IO_PGETEVENTS: _Call(Timeout.TIMESPEC, r.R8),
    NR.SEMOP: _Call(Timeout.NONE),
    NR.IO_URING_ENTER: _Call(Timeout.NONE),
    NR.CONNECT: _Call(Timeout.SEND, expired=-_EINPROGRESS),
    **dict.fromkeys(
        (NR.READ, NR.READV, NR.RECVFROM, NR.RECVMSG, NR.RECVMMSG, NR.ACCEPT, NR.ACCEPT4),
        _RECEIVE,
    ),
    **dict.fromkeys((NR.WRITE, NR.WRITEV, NR.SENDTO, NR.SENDMSG, NR.SENDMMSG), _SEND),
}

# Calls which a fatal signal alone can interrupt, before they have done anything (mmap_write_lock_killable,
# copy_process).
_UNDONE_WHEN_KILLED = frozenset(
    {NR.MMAP, NR.MUNMAP, NR.MPROTECT, NR.MREMAP, NR.BRK, NR.MADVISE, NR.CLONE, NR.CLONE3, NR.FORK, NR.VFORK}
)

# Calls that continue through restart_syscall(2), from what only the kernel remembers.
_CONTINUED: dict[int, _Call] = {
    NR.NANOSLEEP: _Call(Timeout.TIMESPEC, r.RDI),
    NR.CLOCK_NANOSLEEP: _Call(Timeout.TIMESPEC, r.RDX),
    NR.FUTEX: _Call(Timeout.TIMESPEC, r.R10),
    NR.POLL: _Call(Timeout.MILLISECONDS, r.RDX),
}

# Transfers that are asked for a number of bytes: the register that says how many.
_COUNTED_OUT = {NR.WRITE: r.RDX, NR.PWRITE64: r.RDX, NR.SENDTO: r.RDX, NR.SENDFILE: r.R10, NR.COPY_FILE_RANGE: r.R8}
_COUNTED_IN = {NR.READ: r.RDX, NR.PREAD64: r.RDX}
_UNCOUNTED = frozenset({NR.WRITEV, NR.PWRITEV, NR.PWRITEV2, NR.READV, NR.PREADV, NR.PREADV2, NR.SPLICE, NR.TEE})


_SYSCALL = b"\x0f\x05"


@dataclass(frozen=True, slots=True)
class BlockedCall:
    """A call that only its own process could continue: what a takeover needs to begin it anew.

    number: the call itself (the registers may say restart_syscall). deadline_ns: when it ends, by the program's
    CLOCK_MONOTONIC; None: its arguments say it all.
    """

    number: int
    deadline_ns: int | None


@dataclass(slots=True)
class _Instance:
    """A call that has been restarted: the mark in its registers, and when its time is up."""

    number: int
    mark: int
    deadline_ns: int


class RestartTable:
    """What is known of the interrupted calls of one program's threads.

    clock: the program's CLOCK_MONOTONIC in nanoseconds. read, write: its memory. socket_timeout: of its descriptor
    (first argument), receiving (second argument true) or sending, in seconds; None: no timeout, or no socket.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        read: Callable[[int, int], bytes],
        write: Callable[[int, bytes], None],
        socket_timeout: Callable[[int, bool], float | None],
    ) -> None:
        self._clock = clock
        self._read = read
        self._write = write
        self._socket_timeout = socket_timeout
        self._restarted: dict[int, _Instance] = {}
        self._blocked: dict[int, BlockedCall] = {}
        self._last_mark = 0

    def repair(self, tid: int, registers: Registers) -> bool:
        """Make an interrupted call of a stopped thread go on; True when `registers` (uint64[27]) were changed.

        Call it at every stop of the thread, whatever the reason: the same call is recognised by what was known before.
        """
        undone = self.note(tid, registers)
        number = signed(registers[r.ORIG_RAX])
        result = signed(registers[r.RAX])
        if number < 0 or result != -r.EINTR or (call := _INTERRUPTED.get(number)) is None:
            return undone
        registers[r.RAX] = r.word(-r.ERESTARTNOHAND)
        match call.timeout:
            case Timeout.MILLISECONDS:
                self._repair_milliseconds(tid, number, registers, call.register)
            case Timeout.TIMESPEC:
                self._repair_timespec(tid, number, registers, call.register)
            case Timeout.RECEIVE | Timeout.SEND:
                self._repair_socket(tid, number, registers, call)
        return True

    def note(self, tid: int, registers: Registers) -> bool:
        """Learn what a stopped or dying thread would continue through restart_syscall(2), for `blocked`.

        True when `registers` were changed: see `undo_prepared_restart`.
        """
        undone = undo_prepared_restart(registers, self._read)
        number = signed(registers[r.ORIG_RAX])
        if number < 0 or signed(registers[r.RAX]) != -r.ERESTART_RESTARTBLOCK:
            self._blocked.pop(tid, None)
        elif not (undone and tid in self._blocked):
            self._remember(tid, number, registers)
        return undone

    def blocked(self, tid: int) -> BlockedCall | None:
        """The call that this thread would continue through restart_syscall(2), as of its last `repair` or `note`."""
        return self._blocked.get(tid)

    def forget(self, tid: int) -> None:
        """The thread is gone."""
        self._restarted.pop(tid, None)
        self._blocked.pop(tid, None)

    def forget_all(self) -> None:
        """The program is another one now."""
        self._restarted.clear()
        self._blocked.clear()

    def _known(self, tid: int, number: int, mark: int) -> _Instance | None:
        instance = self._restarted.get(tid)
        if instance is not None and instance.number == number and instance.mark == mark:
            return instance
        return None

    def _new_mark(self) -> int:
        self._last_mark = self._last_mark % 0x7FFF_FFFE + 1
        return self._last_mark

    def _repair_milliseconds(self, tid: int, number: int, registers: Registers, register: int) -> None:
        value = int(registers[register])
        timeout_ms = value & _LOW_HALF
        if timeout_ms >= 1 << 31:
            # Negative: for ever.
            return
        instance = self._known(tid, number, value >> 32)
        if instance is None:
            instance = _Instance(number, self._new_mark(), self._clock() + timeout_ms * 1_000_000)
            self._restarted[tid] = instance
        registers[register] = instance.mark << 32 | _milliseconds(instance.deadline_ns - self._clock())

    def _repair_timespec(self, tid: int, number: int, registers: Registers, register: int) -> None:
        pointer = int(registers[register])
        if not pointer:
            return
        instance = self._known(tid, number, pointer)
        if instance is None:
            own = (int(registers[r.RSP]) - _TIMESPEC_BELOW_STACK) & ~0xF
            deadline_ns = self._clock() + _timespec_ns(self._read(pointer, _TIMESPEC.size))
            instance = self._restarted[tid] = _Instance(number, own, deadline_ns)
        self._write(instance.mark, _timespec(instance.deadline_ns - self._clock()))
        registers[register] = instance.mark

    def _repair_socket(self, tid: int, number: int, registers: Registers, call: _Call) -> None:
        value = int(registers[call.register])
        instance = self._known(tid, number, value >> 32)
        if instance is None:
            timeout_s = self._socket_timeout(value & _LOW_HALF, call.timeout is Timeout.RECEIVE)
            if timeout_s is None:
                return
            instance = _Instance(number, self._new_mark(), self._clock() + int(timeout_s * _SECOND_NS))
            self._restarted[tid] = instance
        if instance.deadline_ns <= self._clock():
            registers[r.RAX] = r.word(call.expired)
            del self._restarted[tid]
            return
        registers[call.register] = instance.mark << 32 | value & _LOW_HALF

    def _remember(self, tid: int, number: int, registers: Registers) -> None:
        # Every interruption is a stop that was seen here, so that restart_syscall continues what was known before.
        if number == NR.RESTART_SYSCALL:
            return
        call = _CONTINUED.get(number)
        deadline_ns = None
        if call is not None and _is_relative(number, registers):
            value = int(registers[call.register])
            if call.timeout is Timeout.MILLISECONDS:
                deadline_ns = self._clock() + (value & _LOW_HALF) * 1_000_000
            elif value:
                deadline_ns = self._clock() + _timespec_ns(self._read(value, _TIMESPEC.size))
        self._blocked[tid] = BlockedCall(number, deadline_ns)


def undo_prepared_restart(registers: Registers, read: Callable[[int, int], bytes]) -> bool:
    """Put a thread that is about to make restart_syscall(2) back to where the kernel had not prepared that yet; True if
    it was.

    Between the two the thread can be stopped again, or killed: its registers then look like a call that has returned
    219, and only the instruction that comes next, read by `read(address, size)`, says otherwise.
    """
    if signed(registers[r.ORIG_RAX]) < 0 or int(registers[r.RAX]) != NR.RESTART_SYSCALL:
        return False
    if read(int(registers[r.RIP]), len(_SYSCALL)) != _SYSCALL:
        return False
    registers[r.RAX] = r.word(-r.ERESTART_RESTARTBLOCK)
    registers[r.RIP] += np.uint64(len(_SYSCALL))
    return True


def _is_relative(number: int, registers: Registers) -> bool:
    if number == NR.CLOCK_NANOSLEEP:
        return not int(registers[r.RSI]) & _TIMER_ABSTIME
    if number == NR.FUTEX:
        return int(registers[r.RSI]) & _FUTEX_COMMAND == _FUTEX_WAIT
    return True


Interruption = Literal["none", "handler", "restarting handler"]


def restart_for_takeover(
    registers: Registers,
    *,
    now_ns: int,
    blocked: BlockedCall | None = None,
    interruption: Interruption = "none",
) -> Writes:
    """Turn the registers of a stopped thread, in place, into those with which another process continues it.

    The kernel that would have restarted the call is not there any more: the thread is put before its system call
    instruction again. now_ns: the program's CLOCK_MONOTONIC, for the time that is left. blocked: as
    `RestartTable.blocked` gave it at the stop. interruption: what pending signal is going to be handled first, and
    whether its handler has SA_RESTART. Gives the (address, bytes) to be written into the memory before the thread runs.
    """
    number = signed(registers[r.ORIG_RAX])
    result = signed(registers[r.RAX])
    # Without this the new kernel would restart on its own, once more.
    registers[r.ORIG_RAX] = r.NO_CALL
    if number < 0 or not _to_be_restarted(number, result):
        return []
    if number == NR.RESTART_SYSCALL and blocked is None:
        registers[r.RAX] = r.word(-r.EINTR)
        return []
    if _is_interrupted(result, interruption):
        registers[r.RAX] = r.word(-r.EINTR)
        return []
    registers[r.RAX] = blocked.number if blocked is not None else number
    registers[r.RIP] -= np.uint64(2)
    if blocked is None or blocked.deadline_ns is None:
        return []
    left_ns = blocked.deadline_ns - now_ns
    call = _CONTINUED[blocked.number]
    if call.timeout is Timeout.MILLISECONDS:
        registers[call.register] = _milliseconds(left_ns)
        return []
    address = (int(registers[r.RSP]) - _TIMESPEC_BELOW_STACK) & ~0xF
    registers[call.register] = address
    return [(address, _timespec(left_ns))]


def _to_be_restarted(number: int, result: int) -> bool:
    return result in _RESTARTED or (result == -r.EINTR and (number in _INTERRUPTED or number in _UNDONE_WHEN_KILLED))


def _is_interrupted(result: int, interruption: Interruption) -> bool:
    """What the kernel does when a handler is about to run (signal(7); handle_signal in arch/x86/kernel/signal.c)."""
    if interruption == "none" or result == -r.ERESTARTNOINTR:
        return False
    return not (result == -r.ERESTARTSYS and interruption == "restarting handler")


def suspect(registers: Registers, is_regular_file: Callable[[int], bool]) -> bool:
    """Whether a thread that was killed may have been caught with a result that only its death explains.

    A fatal signal makes the kernel give up in the middle of copying: EFAULT, EINTR from calls that know no EINTR, or
    fewer bytes than asked for. Such a thread must not be continued from here; the checkpoint before is the sound one.
    A short count from a socket or pipe is ordinary, and complete in itself; from a regular file
    (`is_regular_file(descriptor)`) it is not, and a call with several buffers can't be told at all.
    """
    number = signed(registers[r.ORIG_RAX])
    result = signed(registers[r.RAX])
    if number < 0:
        return False
    if result == -r.EFAULT:
        return True
    if result == -r.EINTR:
        return number not in _INTERRUPTED and number not in _UNDONE_WHEN_KILLED
    if result < 0:
        return number == NR.EXECVE or number == NR.EXECVEAT
    asked_in = _COUNTED_OUT.get(number, _COUNTED_IN.get(number))
    if asked_in is not None and result >= int(registers[asked_in]):
        return False
    if asked_in is None and number not in _UNCOUNTED:
        return False
    descriptor = int(registers[r.RDI]) & _LOW_HALF
    return is_regular_file(descriptor)


def _milliseconds(left_ns: int) -> int:
    return min(max(0, -(-left_ns // 1_000_000)), 0x7FFF_FFFF)


def _timespec(left_ns: int) -> bytes:
    return _TIMESPEC.pack(*divmod(max(0, left_ns), _SECOND_NS))


def _timespec_ns(raw: bytes) -> int:
    seconds, nanoseconds = _TIMESPEC.unpack(raw)
    return int(seconds) * _SECOND_NS + int(nanoseconds)
