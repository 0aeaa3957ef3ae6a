"""System calls inside a stopped program: what they do, and that nothing is left of them."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from agent.errors import CaptureError, CheckpointAbandoned, TraceeGone
from agent.kernel import procfs, ptrace, registers
from agent.kernel.libc import NR
from agent.kernel.pidfd import get_descriptor
from agent.tracing.program_event import Dying
from agent.tracing.remote import SCRATCH_BYTES
from tests.agent.traced import Running, running


@contextmanager
def stopped(*program: str) -> Iterator[Running]:
    with running(*program) as found:
        found.stop()
        yield found


def test_a_call_gives_what_the_program_would_get() -> None:
    with stopped("deaths", "thread") as program:
        for tid in program.tracee.threads:
            with program.tracee.remote(tid) as call:
                assert call(NR.GETTID) == tid
                assert call(NR.GETPID) == program.pid
                assert call(NR.CLOSE, 999) == -errno.EBADF


def test_everything_is_restored() -> None:
    with stopped("steady") as program:
        tracee = program.tracee
        before = [
            (ptrace.get_registers(tid), ptrace.get_xstate(tid), ptrace.signal_mask(tid)) for tid in tracee.threads
        ]
        stack = int(before[0][0][registers.RSP])
        below = os.pread(tracee.memory, 4096, stack - 4096)
        with tracee.remote(program.pid) as call:
            call.write(b"x" * SCRATCH_BYTES)
            assert call.read(3) == b"xxx"
            call(NR.GETCWD, call.scratch, SCRATCH_BYTES)
        assert os.pread(tracee.memory, 4096, stack - 4096) == below
        for tid, (general, extended, mask) in zip(tracee.threads, before, strict=True):
            assert (ptrace.get_registers(tid) == general).all()
            assert ptrace.get_xstate(tid) == extended
            assert ptrace.signal_mask(tid) == mask
        tracee.resume()
        os.kill(program.pid, signal.SIGUSR1)
        _, wrong = map(int, program.await_line().split())
        assert wrong == 0


def test_arguments_and_results_go_through_scratch_memory() -> None:
    with stopped("deaths", "thread") as program:
        with program.tracee.remote(program.pid) as call:
            path = call.write(b"/dev/null\0")
            descriptor = call(NR.OPENAT, -100, path, os.O_RDONLY, 0)
            assert descriptor >= 3
            own = get_descriptor(program.tracee.pidfd, descriptor)
            assert os.read(own, 1) == b""
            os.close(own)
            assert call(NR.CLOSE, descriptor) == 0
            length = call(NR.GETCWD, call.scratch, SCRATCH_BYTES)
            assert call.read(length - 1).decode() == procfs.read_link(program.pid, "cwd")


def test_an_interrupted_call_goes_on_after_injections() -> None:
    """The thread's own call, interrupted by the stop, is restarted although others were made in its name."""
    with running("blocked", "epoll_event") as program:
        program.go()

        def inject() -> None:
            with suppress(CheckpointAbandoned):  # It has said its line, and ended.
                program.stop()
                with program.tracee.remote(program.pid) as call:
                    assert call(NR.GETPID) == program.pid
                program.tracee.resume()

        result, error, _ = map(int, program.await_line(do=inject).split())
        assert (result, error) == (1, 0)


def test_an_ignored_sigtrap_stays_ignored() -> None:
    """A single step would end in a forced SIGTRAP, for which the kernel throws an ignoring handler away."""
    trap = 1 << (signal.SIGTRAP - 1)
    with running("deaths", "handled") as program:
        program.go()
        while not procfs.status(program.pid).ignored & trap:
            program.pump()
        program.stop()
        with program.tracee.remote(program.pid) as call:
            call(NR.GETPID)
        assert procfs.status(program.pid).ignored & trap


def test_a_call_that_blocks_is_taken_back() -> None:
    with stopped("deaths", "thread") as program:
        before = ptrace.get_registers(program.pid)
        with pytest.raises(CaptureError, match="pause"):
            with program.tracee.remote(program.pid, deadline_s=0.05) as call:
                call(NR.PAUSE)
        assert (ptrace.get_registers(program.pid) == before).all()
        program.tracee.resume()
        program.go()
        assert program.await_line(do=program.stop_and_go) == "joined"


def test_a_kill_in_the_middle_is_told_and_the_registers_are_known() -> None:
    with stopped("deaths", "thread") as program:
        tracee = program.tracee
        own = tracee.block.registers[0].copy()
        with pytest.raises(TraceeGone):
            with tracee.remote(program.pid) as call:
                call(NR.KILL, program.pid, signal.SIGKILL)
        event = program.await_event(Dying)
        assert isinstance(event, Dying)
        tracee.read_dying()
        assert (tracee.block.registers[0] == own).all()


def kill_and_call(program: Running) -> None:
    with program.tracee.remote(program.pid) as call:
        os.kill(program.pid, signal.SIGKILL)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        call(NR.GETPID)


def test_a_kill_before_a_call_is_held_all_the_same() -> None:
    with stopped("deaths", "thread") as program:
        with pytest.raises(TraceeGone):
            kill_and_call(program)
        program.await_event(Dying)
        assert not program.tracee.missed
        assert len(program.tracee.threads) == 3


def test_sigstop_in_the_middle_comes_afterwards() -> None:
    with stopped("deaths", "thread") as program:
        with program.tracee.remote(program.pid) as call:
            os.kill(program.pid, signal.SIGSTOP)
            assert call(NR.GETPID) == program.pid
        program.tracee.resume()
        while not program.tracee.group_stopped:
            program.pump()
        os.kill(program.pid, signal.SIGCONT)
        program.go()
        assert program.await_line() == "joined"


def test_a_group_stopped_program_can_be_called_into() -> None:
    with running("deaths", "thread") as program:
        os.kill(program.pid, signal.SIGSTOP)
        while not program.tracee.group_stopped:
            program.pump()
        program.stop()
        with program.tracee.remote(program.pid) as call:
            assert call(NR.GETPID) == program.pid
        program.tracee.resume()
        program.pump()
        assert program.tracee.group_stopped
        os.kill(program.pid, signal.SIGCONT)
        program.go()
        assert program.await_line() == "joined"


def test_a_program_under_seccomp_can_be_called_into() -> None:
    with stopped("sandboxed") as program:
        assert procfs.status(program.pid).seccomp == 2
        with program.tracee.remote(program.pid) as call:
            assert call(NR.GETPID) == program.pid
        assert procfs.status(program.pid).seccomp == 2
