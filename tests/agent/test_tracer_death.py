"""The agent is killed at any moment outside of an injection: the program runs on unharmed, and can be seized again."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback

import pytest

from agent.errors import CheckpointAbandoned
from agent.kernel import procfs
from agent.kernel.libc import NR
from agent.tracing.tracee import Tracee
from tests.agent.traced import STOP_S, running

KILLS = 50


def trace_until_killed(pid: int, say: int, *, inject: bool) -> None:
    """An agent that stops the program over and over; one injection first, and then a byte that says so."""
    tracee = Tracee(pid)
    tracee.seize()
    while inject:
        try:
            tracee.stop(time.monotonic() + STOP_S)
            break
        except CheckpointAbandoned:
            tracee.pump()
    if inject:
        with tracee.remote(pid) as call:
            call(NR.GETPID)
        tracee.resume()
    os.write(say, b"x")
    while True:
        try:
            tracee.stop(time.monotonic() + STOP_S)
        except CheckpointAbandoned:
            pass
        tracee.resume()
        tracee.pump()


@pytest.mark.parametrize("name", ["steady", "births"])
def test_the_program_survives_its_tracers(name: str) -> None:
    chance = random.Random(7)
    with running(name, seized=False) as program:
        for turn in range(KILLS):
            ready, say = os.pipe()
            agent = os.fork()
            if agent == 0:
                try:
                    trace_until_killed(program.pid, say, inject=turn % 2 == 0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            os.close(say)
            assert os.read(ready, 1) == b"x"
            os.close(ready)
            # Anywhere in the loop of stops: the moment is chosen by chance, not awaited.
            signal.sigtimedwait({signal.SIGUSR2}, chance.random() * 0.01)
            os.kill(agent, signal.SIGKILL)
            os.waitpid(agent, 0)
            assert procfs.status(program.pid).tracer == 0
        program.seize()
        assert program.stop_and_go()
        if name == "steady":
            os.kill(program.pid, signal.SIGUSR1)
        else:
            program.input.close()
        rounds, wrong = map(int, program.await_line(do=program.stop_and_go).split())
        assert rounds > 0
        assert wrong == 0
