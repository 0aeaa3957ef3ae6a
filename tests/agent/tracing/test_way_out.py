"""Real programs that end under a tracer: by themselves, of a signal of their own, killed."""

from __future__ import annotations

import os
import signal

import pytest

from agent.errors import CheckpointAbandoned
from agent.kernel import procfs, registers
from agent.tracing.program_event import Dying, Exited
from tests.agent.traced import running


def test_a_thread_that_ends_by_itself_is_let_go() -> None:
    with running("deaths", "thread") as program:
        program.go()
        assert program.await_line(do=program.stop_and_go) == "joined"
        program.stop()
        assert len(program.tracee.threads) == 3
        assert program.tracee.dying is None


def test_a_leader_may_end_before_its_threads() -> None:
    with running("deaths", "leader") as program:
        program.go()
        assert program.await_line() == "leaving"
        while procfs.stat(program.pid, program.pid).state != "Z":
            program.pump()
        program.stop()
        assert len(program.tracee.threads) == 2
        program.tracee.resume()
        program.stop()


@pytest.mark.parametrize(
    ("way", "number", "kind"),
    [
        ("crash", signal.SIGSEGV, "crashed"),
        ("abort", signal.SIGABRT, "crashed"),
        ("term", signal.SIGTERM, "terminated"),
    ],
)
def test_a_fatal_signal_of_its_own_holds_it(way: str, number: int, kind: str) -> None:
    with running("deaths", way) as program:
        program.go()
        event = program.await_event(Dying)
        assert isinstance(event, Dying)
        assert event.status & 0x7F == number
        assert event.kind == kind == program.tracee.dying
        program.tracee.release_dying()
        exited = program.await_event(Exited)
        assert isinstance(exited, Exited)
        assert exited.status & 0x7F == number
        assert program.tracee.dying is None


@pytest.mark.parametrize("stopped", [False, True])
def test_a_killed_program_can_be_read_until_it_is_released(stopped: bool) -> None:
    with running("deaths", "thread") as program:
        program.stop_asleep()
        before = program.tracee.block.registers.copy()
        if not stopped:
            program.tracee.resume()
        os.kill(program.pid, signal.SIGKILL)
        event = program.await_event(Dying)
        assert isinstance(event, Dying)
        assert event.kind == "killed"
        assert len(program.tracee.threads) == 3
        program.tracee.read_dying()
        after = program.tracee.block.registers
        assert (after[:, registers.RSP] == before[:, registers.RSP]).all()
        # At their system call instruction again, if they were just about to restart their calls.
        assert set((before[:, registers.RIP] - after[:, registers.RIP]).tolist()) <= {0, 2}
        assert os.pread(program.tracee.memory, 8, int(after[0, registers.RSP]))
        assert procfs.descriptors(program.pid)[:3] == [0, 1, 2]
        with pytest.raises(CheckpointAbandoned):
            program.stop()
        program.tracee.release_dying()
        assert program.await_event(Exited) == Exited(signal.SIGKILL)


def test_an_ordinary_end_is_not_held() -> None:
    with running("deaths", "thread") as program:
        program.go(b"x\n")
        assert program.await_event(Exited) == Exited(3 << 8)
        assert not any(isinstance(event, Dying) for event in program.events)
        assert program.tracee.ended
