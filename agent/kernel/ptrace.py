"""ptrace(2): one function per request. Everything here belongs to the OS thread that seized the tracee.

All functions raise TraceeGone when the thread no longer exists or does not stand in a ptrace-stop (the kernel says
ESRCH to both), and KernelError for everything else.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.errors import KernelError, TraceeGone
from agent.kernel import registers
from agent.kernel.libc import HELD, get_errno

# Requests (include/uapi/linux/ptrace.h).
CONT, SINGLESTEP, DETACH, SYSCALL = 7, 9, 17, 24
SETOPTIONS, GETEVENTMSG, GETSIGINFO, SETSIGINFO, GETREGSET, SETREGSET = 0x4200, 0x4201, 0x4202, 0x4203, 0x4204, 0x4205
SEIZE, INTERRUPT, LISTEN, PEEKSIGINFO, GETSIGMASK, SETSIGMASK, GET_RSEQ = (
    0x4206,
    0x4207,
    0x4208,
    0x4209,
    0x420A,
    0x420B,
    0x420F,
)

_REQUEST_NAMES = {
    CONT: "CONT", SINGLESTEP: "SINGLESTEP", DETACH: "DETACH", SYSCALL: "SYSCALL", SETOPTIONS: "SETOPTIONS",
    GETEVENTMSG: "GETEVENTMSG", GETSIGINFO: "GETSIGINFO", SETSIGINFO: "SETSIGINFO", GETREGSET: "GETREGSET",
    SETREGSET: "SETREGSET", SEIZE: "SEIZE", INTERRUPT: "INTERRUPT", LISTEN: "LISTEN", PEEKSIGINFO: "PEEKSIGINFO",
    GETSIGMASK: "GETSIGMASK", SETSIGMASK: "SETSIGMASK", GET_RSEQ: "GET_RSEQ",
}  # fmt: skip

# Options of SEIZE and SETOPTIONS.
TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACEVFORKDONE, TRACEEXIT = (1 << bit for bit in range(7))
EXITKILL = 1 << 20
SUSPEND_SECCOMP = 1 << 21

SIGINFO_BYTES = 128
SIGMASK_BYTES = 8
ALL_SIGNALS = (1 << 64) - 1

_SIGINFO_BATCH = 32
_XSTATE_BYTES_MAX = 16 * 1024
_EINVAL, _EIO, _ESRCH = 22, 5, 3

Registers = NDArray[np.uint64]


class Iovec(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _PeekArguments(ctypes.Structure):
    """struct ptrace_peeksiginfo_args."""

    _fields_ = [("offset", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("count", ctypes.c_int32)]


class _RseqConfiguration(ctypes.Structure):
    """struct ptrace_rseq_configuration."""

    _fields_ = [
        ("pointer", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("signature", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


@dataclass(frozen=True, slots=True)
class Rseq:
    """A thread's registration for restartable sequences (rseq(2)); pointer 0: none."""

    pointer: int
    size: int
    signature: int
    flags: int


# The raw request, for hot loops: (request, tid, address, data) -> -1 with errno set, or the result.
raw = HELD["ptrace"]
raw.restype = ctypes.c_long
raw.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]

# One tracer thread at a time uses these; the interpreter lock, held over every call, guards the rest.
_word = ctypes.c_uint64()
_word_pointer = ctypes.addressof(_word)
_iovec = Iovec()
_iovec_pointer = ctypes.addressof(_iovec)
_peek = _PeekArguments(count=_SIGINFO_BATCH)
_peek_pointer = ctypes.addressof(_peek)
_siginfos = (ctypes.c_char * (SIGINFO_BYTES * _SIGINFO_BATCH))()
_siginfos_pointer = ctypes.addressof(_siginfos)
_rseq = _RseqConfiguration()
_rseq_pointer = ctypes.addressof(_rseq)
_xstate = (ctypes.c_char * _XSTATE_BYTES_MAX)()
_xstate_pointer = ctypes.addressof(_xstate)


def failure(request: int, tid: int) -> Exception:
    """The error of the ptrace request that has just failed."""
    errno = get_errno()
    if errno == _ESRCH:
        return TraceeGone(tid)
    hint = "another tracer (gdb, strace, a second agent) may be attached" if request == SEIZE and errno == 1 else ""
    return KernelError(f"ptrace {_REQUEST_NAMES.get(request, hex(request))}", f"thread {tid}", errno, hint=hint)


def _request(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    result: int = raw(request, tid, address, data)
    if result == -1:
        raise failure(request, tid)
    return result


def seize(tid: int, options: int) -> None:
    """Attach without stopping. KernelError EPERM: traced by another, or no right to."""
    _request(SEIZE, tid, 0, options)


def interrupt(tid: int) -> None:
    """Ask for a stop, which wait(2) will report as EVENT_STOP."""
    _request(INTERRUPT, tid)


def cont(tid: int, signal: int = 0) -> None:
    """Let a stopped thread run on, delivering `signal` (0: none)."""
    _request(CONT, tid, 0, signal)


def singlestep(tid: int, signal: int = 0) -> None:
    """Let a stopped thread execute one instruction; a system call counts as one."""
    _request(SINGLESTEP, tid, 0, signal)


def listen(tid: int) -> None:
    """Leave a thread in its group stop while it may be told of SIGCONT."""
    _request(LISTEN, tid)


def detach(tid: int, signal: int = 0) -> None:
    """Let a stopped thread go for good, delivering `signal` (0: none)."""
    _request(DETACH, tid, 0, signal)


def set_options(tid: int, options: int) -> None:
    """Replace the options of a stopped thread."""
    _request(SETOPTIONS, tid, 0, options)


def event_message(tid: int) -> int:
    """What the event of the present stop carries: the new tid (clone, fork), the former tid (exec), the exit status
    (exit)."""
    _request(GETEVENTMSG, tid, 0, _word_pointer)
    return _word.value


def signal_information(tid: int) -> bytes:
    """The siginfo_t (128 bytes) of the signal that a thread is stopped for; KernelError EINVAL in a group stop."""
    _request(GETSIGINFO, tid, 0, _siginfos_pointer)
    return _siginfos.raw[:SIGINFO_BYTES]


def set_signal_information(tid: int, information: bytes) -> None:
    """Replace the siginfo_t that goes with the signal which the next `cont` delivers."""
    if len(information) != SIGINFO_BYTES:
        raise ValueError(f"siginfo_t has {SIGINFO_BYTES} bytes, not {len(information)}")
    ctypes.memmove(_siginfos_pointer, information, SIGINFO_BYTES)
    _request(SETSIGINFO, tid, 0, _siginfos_pointer)


def read_registers(tid: int, out: Registers) -> None:
    """Read the general registers of a stopped thread into `out`, uint64[27], C-contiguous."""
    _iovec.base = out.ctypes.data
    _iovec.length = registers.BYTES
    _request(GETREGSET, tid, registers.NT_PRSTATUS, _iovec_pointer)
    if _iovec.length != registers.BYTES:
        raise KernelError("ptrace GETREGSET", f"thread {tid} (a 32-bit thread)", _EINVAL)


def get_registers(tid: int) -> Registers:
    """The general registers of a stopped thread, a new uint64[27]; indices in `registers`."""
    out = np.empty(registers.COUNT, np.uint64)
    read_registers(tid, out)
    return out


def set_registers(tid: int, values: Registers) -> None:
    """Set the general registers of a stopped thread from uint64[27], C-contiguous."""
    if values.nbytes != registers.BYTES or not values.flags.c_contiguous:
        raise ValueError("registers are 27 contiguous 64-bit words")
    _iovec.base = values.ctypes.data
    _iovec.length = registers.BYTES
    _request(SETREGSET, tid, registers.NT_PRSTATUS, _iovec_pointer)


def get_xstate(tid: int) -> bytes:
    """The extended state (FPU, SSE, AVX ...) of a stopped thread, in XSAVE's standard format; its size is the
    machine's."""
    _iovec.base = _xstate_pointer
    _iovec.length = _XSTATE_BYTES_MAX
    _request(GETREGSET, tid, registers.NT_X86_XSTATE, _iovec_pointer)
    return ctypes.string_at(_xstate_pointer, _iovec.length)


def set_xstate(tid: int, state: bytes) -> None:
    """Set the extended state of a stopped thread; must have the machine's size (KernelError EFAULT or EINVAL
    otherwise)."""
    if len(state) > _XSTATE_BYTES_MAX:
        raise ValueError(f"an extended state of {len(state)} bytes is none")
    ctypes.memmove(_xstate_pointer, state, len(state))
    _iovec.base = _xstate_pointer
    _iovec.length = len(state)
    _request(SETREGSET, tid, registers.NT_X86_XSTATE, _iovec_pointer)


def signal_mask(tid: int) -> int:
    """The blocked signals of a stopped thread; bit n-1 stands for signal n."""
    _request(GETSIGMASK, tid, SIGMASK_BYTES, _word_pointer)
    return _word.value


def set_signal_mask(tid: int, mask: int) -> None:
    """Set the blocked signals of a stopped thread (SIGKILL and SIGSTOP stay unblockable)."""
    _word.value = mask
    _request(SETSIGMASK, tid, SIGMASK_BYTES, _word_pointer)


def pending_signals(tid: int, *, shared: bool) -> bytes:
    """The siginfo_t's (128 bytes each) of the signals queued to a stopped thread, or to its whole process; they stay
    queued."""
    found = b""
    _peek.flags = 1 if shared else 0
    _peek.offset = 0
    while True:
        count = _request(PEEKSIGINFO, tid, _peek_pointer, _siginfos_pointer)
        found += _siginfos.raw[: count * SIGINFO_BYTES]
        if count < _SIGINFO_BATCH:
            return found
        _peek.offset += count


def get_rseq(tid: int) -> Rseq:
    """The registration for restartable sequences of a stopped thread."""
    _request(GET_RSEQ, tid, ctypes.sizeof(_rseq), _rseq_pointer)
    return Rseq(_rseq.pointer, _rseq.size, _rseq.signature, _rseq.flags)
