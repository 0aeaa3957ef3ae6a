"""Waiting for a stopped tracee's next stop, and one system call in it without any signal.

PTRACE_SINGLESTEP and int3 end in a forced SIGTRAP, which takes an ignoring handler away (signal(7)); the two stops of
PTRACE_SYSCALL are told without a signal. So the last calls of a takeover are made in this way.
"""

from __future__ import annotations

import signal
import time
from typing import Final

from agent.errors import RestoreError, TraceeGone
from agent.kernel import ptrace, registers, wait
from agent.kernel.libc import NR, signed

DEADLINE_S: Final = 10.0
SYSCALL_STOP: Final = signal.SIGTRAP | 0x80
"""The stopping signal at a system call's entry and exit, with TRACESYSGOOD."""
_ERRNO_MAX: Final = 4095
_NAP_S_MIN: Final = 0.00005
_NAP_S_MAX: Final = 0.01


def next_stop(tid: int, doing: str, deadline_s: float = DEADLINE_S) -> wait.StopEvent:
    """Wait until thread `tid` stops or ends. SIGCHLD should be blocked in all threads.

    Raises RestoreError, naming what it was `doing`, when that takes longer than `deadline_s`; TraceeGone when there is
    no such thread.
    """
    event = wait.poll(tid)
    if event is not None:
        return event
    end_s = time.monotonic() + deadline_s
    nap_s = _NAP_S_MIN
    while time.monotonic() < end_s:
        # A library's thread that does not block SIGCHLD (numpy's, say) may swallow one: so never trust in it for long.
        wait.await_child_signal(nap_s)
        event = wait.poll(tid)
        if event is not None:
            return event
        nap_s = min(2 * nap_s, _NAP_S_MAX)
    raise RestoreError(f"{doing} in thread {tid} did not end within {deadline_s:g} s")


def quiet_call(tid: int, instruction: int, number: int, *arguments: int) -> int:
    """One system call in the stopped thread `tid`, by the `syscall` instruction at address `instruction`.

    Needs the option TRACESYSGOOD. The thread's registers are changed and not restored. Gives the result, or raises
    RestoreError naming call and error; TraceeGone.
    """
    values = ptrace.get_registers(tid)
    values[registers.RIP] = instruction
    values[registers.RAX] = number
    values[registers.ORIG_RAX] = registers.NO_CALL
    for index, argument in zip(registers.ARGUMENTS, arguments, strict=False):
        values[index] = registers.word(argument)
    ptrace.set_registers(tid, values)
    name = NR.name(number)
    for _ in ("entry", "exit"):
        if ptrace.raw(ptrace.SYSCALL, tid, 0, 0) == -1:
            raise ptrace.failure(ptrace.SYSCALL, tid)
        event = next_stop(tid, name)
        if event.exited:
            raise TraceeGone(tid)
        if event.signal != SYSCALL_STOP:
            raise RestoreError(f"{name} in thread {tid} was interrupted: status {event.status:#x}")
    ptrace.read_registers(tid, values)
    result = signed(int(values[registers.RAX]))
    if -_ERRNO_MAX <= result < 0:
        raise RestoreError(f"{name} in thread {tid} gave error {-result}")
    return result
