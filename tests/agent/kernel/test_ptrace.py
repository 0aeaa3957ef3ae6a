"""ptrace requests on a process that stands still."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from agent.errors import KernelError, TraceeGone
from agent.kernel import ptrace, registers, wait
from agent.kernel.register_block import RegisterBlock


@pytest.fixture
def stopped() -> Iterator[int]:
    """A process in a ptrace-stop of this thread."""
    process = subprocess.Popen(["/bin/sleep", "100"])
    try:
        ptrace.seize(process.pid, ptrace.TRACEEXIT)
        ptrace.interrupt(process.pid)
        assert wait.wait_for(process.pid).is_interrupt
        yield process.pid
    finally:
        process.kill()
        stopped = True
        while stopped:
            try:
                # Held in PTRACE_EVENT_EXIT, or wherever the test left it.
                ptrace.cont(process.pid)
            except TraceeGone:
                pass
            stopped = wait.wait_for(process.pid).stopped
        process.returncode = 0


def test_registers_are_read_and_written(stopped: int) -> None:
    before = ptrace.get_registers(stopped)
    changed = before.copy()
    changed[registers.R15] = 0xDEAD_BEEF
    ptrace.set_registers(stopped, changed)
    assert int(ptrace.get_registers(stopped)[registers.R15]) == 0xDEAD_BEEF
    ptrace.set_registers(stopped, before)
    assert (ptrace.get_registers(stopped) == before).all()
    with pytest.raises(ValueError, match="27"):
        ptrace.set_registers(stopped, np.zeros(26, np.uint64))


def test_the_extended_state_is_read_and_written(stopped: int) -> None:
    state = bytearray(ptrace.get_xstate(stopped))
    assert len(state) >= 576
    # The registers xmm0 of the FXSAVE area, and the bit that says that they are in use.
    state[160:176] = bytes(range(16))
    state[512] |= 2
    ptrace.set_xstate(stopped, bytes(state))
    assert ptrace.get_xstate(stopped)[160:176] == bytes(range(16))
    with pytest.raises(KernelError):
        ptrace.set_xstate(stopped, bytes(state[:100]))
    with pytest.raises(ValueError, match="none"):
        ptrace.set_xstate(stopped, bytes(1 << 20))


def test_the_signal_mask_is_read_and_written(stopped: int) -> None:
    mask = 1 << (signal.SIGUSR1 - 1)
    ptrace.set_signal_mask(stopped, mask)
    assert ptrace.signal_mask(stopped) == mask


def test_pending_signals_are_seen_and_stay(stopped: int) -> None:
    ptrace.set_signal_mask(stopped, ptrace.ALL_SIGNALS)
    assert ptrace.pending_signals(stopped, shared=True) == b""
    for number in range(signal.SIGRTMIN, signal.SIGRTMIN + 3):
        for _ in range(15):
            os.kill(stopped, number)
    for _ in range(2):
        found = ptrace.pending_signals(stopped, shared=True)
        assert len(found) == 45 * ptrace.SIGINFO_BYTES
        assert struct.unpack_from("<i", found)[0] == signal.SIGRTMIN
    assert ptrace.pending_signals(stopped, shared=False) == b""


def test_a_signal_is_held_with_its_information(stopped: int) -> None:
    ptrace.cont(stopped)
    os.kill(stopped, signal.SIGUSR1)
    event = wait.wait_for(stopped)
    assert event.is_signal_delivery
    information = ptrace.signal_information(stopped)
    assert struct.unpack_from("<i", information)[0] == signal.SIGUSR1
    ptrace.set_signal_information(stopped, information)
    ptrace.cont(stopped, signal.SIGUSR1)
    assert wait.wait_for(stopped).event == wait.EVENT_EXIT
    assert ptrace.event_message(stopped) == signal.SIGUSR1


def test_rseq_is_read(stopped: int) -> None:
    found = ptrace.get_rseq(stopped)
    assert (found.pointer == 0) == (found.size == 0)


def test_a_step_is_one_instruction(stopped: int) -> None:
    values = ptrace.get_registers(stopped)
    # Or the one instruction would be the call that it sleeps in, restarted.
    values[registers.ORIG_RAX] = registers.NO_CALL
    ptrace.set_registers(stopped, values)
    ptrace.singlestep(stopped)
    event = wait.wait_for(stopped)
    assert event.signal == signal.SIGTRAP


def test_options_can_be_replaced(stopped: int) -> None:
    ptrace.set_options(stopped, ptrace.TRACEEXIT | ptrace.TRACESYSGOOD)
    with pytest.raises(KernelError, match="ptrace SETOPTIONS of thread"):
        ptrace.set_options(stopped, 1 << 30)


def test_a_detached_process_runs_on(stopped: int) -> None:
    ptrace.detach(stopped)
    with pytest.raises(TraceeGone):
        ptrace.get_registers(stopped)


def test_a_thread_that_is_not_stopped_is_gone(stopped: int) -> None:
    ptrace.cont(stopped)
    with pytest.raises(TraceeGone):
        ptrace.signal_mask(stopped)


def test_a_block_reads_many_threads_at_once(stopped: int) -> None:
    block = RegisterBlock(capacity=1)
    block.read([stopped])
    assert (block.registers[0] == ptrace.get_registers(stopped)).all()
    assert block.xstate[0].tobytes() == ptrace.get_xstate(stopped)
    block.read([stopped] * 5)
    assert block.registers.shape == (5, registers.COUNT)
    assert (block.registers == ptrace.get_registers(stopped)).all()
    assert len({row.tobytes() for row in block.xstate}) == 1
    assert block.masks.tolist() == [ptrace.signal_mask(stopped)] * 5
    with pytest.raises(TraceeGone):
        block.read([stopped, 1])
