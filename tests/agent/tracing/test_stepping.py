"""System calls by two quiet stops."""

from __future__ import annotations

import signal

import pytest

from agent.errors import RestoreError, TraceeGone
from agent.kernel import procfs, ptrace, registers
from agent.kernel.libc import NR
from agent.mirror.batch import RUNNER_SYSCALL_OFFSET
from agent.mirror.shadow import Shadow
from agent.tracing.stepping import next_stop, quiet_call
from tests.agent.plain_copy import NUMBER


def _instruction(blank: Shadow) -> int:
    return blank.trampoline.address + RUNNER_SYSCALL_OFFSET


def test_a_call_is_made_and_its_result_given(blank: Shadow) -> None:
    assert quiet_call(blank.pid, _instruction(blank), NR.GETPID) == NUMBER


def test_an_error_is_named(blank: Shadow) -> None:
    with pytest.raises(RestoreError, match=f"close in thread {blank.pid} gave error 9"):
        quiet_call(blank.pid, _instruction(blank), NR.CLOSE, 99)


def test_an_ignored_sigtrap_stays_ignored(blank: Shadow) -> None:
    area = blank.layout[0]
    blank.write(area.start, (1).to_bytes(8, "little") + bytes(24))
    quiet_call(blank.pid, _instruction(blank), NR.RT_SIGACTION, signal.SIGTRAP, area.start, 0, 8)
    quiet_call(blank.pid, _instruction(blank), NR.GETPID)
    assert procfs.status(blank.pid).ignored >> (signal.SIGTRAP - 1) & 1


def test_waiting_has_an_end(blank: Shadow) -> None:
    values = ptrace.get_registers(blank.pid)
    values[registers.RIP], values[registers.RAX] = _instruction(blank), NR.PAUSE
    ptrace.set_registers(blank.pid, values)
    ptrace.cont(blank.pid)
    try:
        with pytest.raises(RestoreError, match=r"nothing at all in thread \d+ did not end within 0.05 s"):
            next_stop(blank.pid, "nothing at all", 0.05)
    finally:
        ptrace.interrupt(blank.pid)
        next_stop(blank.pid, "the stop")


def test_a_thread_that_does_not_exist_is_gone() -> None:
    with pytest.raises(TraceeGone):
        next_stop(1 << 22, "anything")
