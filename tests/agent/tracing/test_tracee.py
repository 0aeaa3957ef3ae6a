"""Real programs under a tracer: births, signals, exec and children, in stops that come all the time."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from agent.errors import CheckpointAbandoned, KernelError, TraceeGone
from agent.kernel import procfs, ptrace, registers
from agent.kernel.libc import NR
from agent.tracing.program_event import ChildForked, Executed
from agent.tracing.tracee import OPTIONS, Tracee
from tests.agent.traced import STOP_S, running

TRACED_STATES = frozenset("tZX")


def states(pid: int) -> dict[int, str]:
    """The state letter of every thread that is there."""
    found = {}
    for tid in procfs.tasks(pid):
        try:
            found[tid] = procfs.stat(pid, tid).state
        except TraceeGone:
            continue
    return found


def test_in_a_stop_nobody_runs_however_many_are_born() -> None:
    stops = 0
    with running("births") as program:

        def check() -> None:
            nonlocal stops
            try:
                program.stop()
            except CheckpointAbandoned:
                assert program.tracee.ended, "it must not be abandoned before its end"
                return
            stops += 1
            moving = {tid: state for tid, state in states(program.pid).items() if state not in TRACED_STATES}
            assert not moving
            assert set(program.tracee.threads) <= set(procfs.tasks(program.pid))
            program.tracee.resume()

        for _ in range(200):
            check()
            program.pump()
        # It ends once its input has, and a hundred were born, however little it ran between those stops.
        program.input.close()
        born, wrong = map(int, program.await_line(do=check).split())
    assert born >= 100
    assert wrong == 0
    assert stops >= 200


def test_threads_are_known_by_both_of_their_ids() -> None:
    with running("deaths", "thread") as program:
        program.stop()
        assert list(program.tracee.threads) == procfs.tasks(program.pid)
        assert program.tracee.threads == {tid: tid for tid in procfs.tasks(program.pid)}
        assert program.tracee.threads[program.pid] == program.pid


def test_registers_are_read_at_each_stop() -> None:
    with running("deaths", "thread") as program:
        program.stop_asleep()
        tracee = program.tracee
        assert tracee.block.registers.shape == (3, registers.COUNT)
        for row, tid in enumerate(tracee.threads):
            assert (ptrace.get_registers(tid) == tracee.block.registers[row]).all()
            assert ptrace.get_xstate(tid) == tracee.block.xstate[row].tobytes()
            assert ptrace.signal_mask(tid) == tracee.block.masks[row]


@pytest.mark.parametrize("way", ["exec", "exec_thread"])
def test_exec_is_told_and_leaves_one_thread(way: str) -> None:
    with running("deaths", way) as program:
        program.go()
        program.await_event(Executed)
        program.stop()
        assert list(program.tracee.threads) == [program.pid]
        assert procfs.command_line(program.pid) == ["cat"]
        with program.tracee.remote(program.pid) as call:
            assert call(NR.GETPID) == program.pid
        program.tracee.resume()
        program.go(b"still here\n")
        assert program.await_line(do=program.stop_and_go) == "still here"


def test_children_go_their_own_way() -> None:
    with running("deaths", "children") as program:
        program.go()
        assert program.await_line(do=program.stop_and_go, every_s=0.001) == "children done"
        program.pump()
        assert program.tracee.children_forked == 20
        assert sum(isinstance(event, ChildForked) for event in program.events) == 20


def test_a_stop_that_a_vfork_prevents_is_abandoned_and_costs_nothing() -> None:
    with running("deaths", "vfork") as program:
        program.go()
        program.await_event(ChildForked)
        with pytest.raises(CheckpointAbandoned, match="1 of 3 threads did not stop"):
            program.tracee.stop(time.monotonic() + 0.02)
        assert program.tracee.abandoned == 1
        program.go(b"x")
        assert program.await_line() == "vfork done"
        program.stop()


def test_a_stop_does_not_undo_a_group_stop() -> None:
    with running("deaths", "thread") as program:
        os.kill(program.pid, signal.SIGSTOP)
        while not program.tracee.group_stopped:
            program.pump()
        for _ in range(3):
            program.stop()
            assert program.tracee.group_stopped
            assert len(program.tracee.block.registers) == 3
            program.tracee.resume()
            program.pump()
        program.go()
        assert program.tracee.group_stopped
        os.kill(program.pid, signal.SIGCONT)
        assert program.await_line() == "joined"
        assert not program.tracee.group_stopped


def test_sigcont_while_stopped_is_not_lost() -> None:
    with running("deaths", "thread") as program:
        os.kill(program.pid, signal.SIGSTOP)
        while not program.tracee.group_stopped:
            program.pump()
        program.stop()
        os.kill(program.pid, signal.SIGCONT)
        program.tracee.resume()
        program.go()
        assert program.await_line() == "joined"


def test_an_untraced_program_can_be_seized_again_after_detach() -> None:
    with running("deaths", "thread") as program:
        program.stop()
        program.tracee.detach()
        assert set(states(program.pid).values()) <= set("SR")
        second = Tracee(program.pid)
        second.seize()
        second.stop(time.monotonic() + STOP_S)
        assert len(second.threads) == 3
        second.detach()
        second.close()


def test_a_program_under_another_tracer_is_refused() -> None:
    with running("deaths", "thread", seized=False) as program:
        release, hold = os.pipe()
        ready, say = os.pipe()
        other = os.fork()
        if other == 0:
            try:
                ptrace.seize(program.pid, 0)
                os.write(say, b"x")
                os.close(hold)
                os.read(release, 1)
            finally:
                os._exit(0)
        os.read(ready, 1)
        try:
            with pytest.raises(KernelError, match="EPERM"):
                program.seize()
        finally:
            os.close(hold)
            os.waitpid(other, 0)
            for descriptor in (release, ready, say):
                os.close(descriptor)


def test_a_program_that_is_gone_is_a_value() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    with pytest.raises(TraceeGone):
        Tracee(process.pid)


def test_adopt_takes_over_stopped_threads_and_turns_exitkill_off() -> None:
    with running("births", seized=False) as program:
        options = OPTIONS | ptrace.EXITKILL
        tids = procfs.tasks(program.pid)
        for tid in tids:
            try:
                ptrace.seize(tid, options)
            except TraceeGone:
                continue
        # Whoever hands a program over has stopped it: here, a first tracee that forgets about it.
        first = Tracee(program.pid)
        first.seize(options)
        first.stop(time.monotonic() + STOP_S)
        program.tracee.adopt(first.threads)
        first.close()
        assert program.tracee.threads == first.threads
        assert set(states(program.pid).values()) <= TRACED_STATES
        program.tracee.resume()
        for _ in range(20):
            assert program.stop_and_go()
        program.input.close()
        _, wrong = map(int, program.await_line(do=program.stop_and_go).split())
        assert wrong == 0


def test_the_extended_state_survives_stops() -> None:
    """A program that computes in registers alone, general and floating point, is never wrong."""
    with running("steady") as program:
        for _ in range(100):
            assert program.stop_and_go()
            program.pump()
        os.kill(program.pid, signal.SIGUSR1)
        rounds, wrong = map(int, program.await_line(do=program.stop_and_go).split())
    assert rounds > 0
    assert wrong == 0


def test_the_block_grows_with_the_program() -> None:
    with running("births") as program:
        program.tracee.block.read([])
        assert program.tracee.block.registers.shape == (0, registers.COUNT)
        program.stop()
        assert program.tracee.block.count == len(program.tracee.threads)
        assert program.tracee.block.registers.dtype == np.uint64


def test_waiting_takes_nothing_from_others() -> None:
    """A child of another thread is reaped by that thread, though the tracer asks for whatever there is."""
    status: list[int] = []
    started, looked = threading.Event(), threading.Event()

    def other() -> None:
        child = subprocess.Popen(["/bin/sh", "-c", "exit 5"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        started.set()
        looked.wait()
        status.append(child.wait())

    thread = threading.Thread(target=other)
    with running("deaths", "thread") as program:
        thread.start()
        started.wait()
        program.pump()
        assert program.stop_and_go()
        looked.set()
        thread.join()
    assert status == [5]
