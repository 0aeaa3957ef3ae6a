"""When an agent is killed: at a moment of its work that is found by looking at the program that it traces."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from pathlib import Path
from typing import Literal

Moment = Literal["anytime", "stop", "attach", "begin"]
MOMENTS: tuple[Moment, ...] = ("anytime", "stop", "attach", "begin")
AFTER_S: dict[Moment, float] = {
    "anytime": 0.1,  # two checkpoints and what is between them
    "stop": 0.003,  # a stop, and a little more
    "attach": 0.01,  # a successor seizes the program and makes calls in it
    "begin": 0.6,  # a successor fills its image, and reads every connection ahead
}
"""Within so many seconds after the moment it is killed."""
_LIMIT_S = 20.0


def kill_at(moment: Moment, program: int, dice: random.Random) -> float:
    """Wait, in a thread, for the moment and a random time, SIGKILL the agent, and wait for its end: what is said of
    mirrors from then on is said by its successor. Gives the milliseconds that this was after the moment.

    "attach" and "begin" begin when the program is traced, "stop" when it is made to stand still. program: its process.
    """
    wait_s = dice.uniform(0.0, AFTER_S[moment])
    tracer = _await_tracer(program)
    begun_s = time.perf_counter()
    agent = os.pidfd_open(_process_of(tracer))
    try:
        if moment == "stop":
            _await_stop(program)
            begun_s = time.perf_counter()
        while (left_s := begun_s + wait_s - time.perf_counter()) > 0:
            if left_s > 0.005:
                time.sleep(left_s - 0.002)
        signal.pidfd_send_signal(agent, signal.SIGKILL)
        after_s = time.perf_counter() - begun_s
        poll = select.poll()
        poll.register(agent, select.POLLIN)
        if not poll.poll(_LIMIT_S * 1000):
            raise AssertionError("an agent does not die of SIGKILL")
    finally:
        os.close(agent)
    return after_s * 1000


def _await_stop(program: int) -> None:
    """Until its first thread goes from running to stopped by its tracer."""
    limit_s = time.perf_counter() + _LIMIT_S
    file = os.open(f"/proc/{program}/stat", os.O_RDONLY)
    try:
        before = b"t"
        while time.perf_counter() < limit_s:
            state = os.pread(file, 512, 0).rpartition(b") ")[2][:1]
            if state == b"t" != before:
                return
            before = state
    finally:
        os.close(file)
    raise AssertionError(f"process {program} is not stopped")


def _await_tracer(program: int) -> int:
    """The thread that traces it, as soon as there is one."""
    limit_s = time.perf_counter() + _LIMIT_S
    while time.perf_counter() < limit_s:
        if tracer := _number(program, b"TracerPid"):
            return tracer
        time.sleep(0.000_05)
    raise AssertionError(f"process {program} is not traced")


def _process_of(thread: int) -> int:
    return _number(thread, b"Tgid")


def _number(process: int, name: bytes) -> int:
    text = Path(f"/proc/{process}/status").read_bytes()
    return int(text.partition(name + b":")[2].split(maxsplit=1)[0])
