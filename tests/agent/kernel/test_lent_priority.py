"""A thread has real-time priority while it is lent, and afterwards what it had before, to the last detail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.kernel.lent_policy import end_lent_priority
from agent.kernel.lent_priority import LentPriority


@pytest.fixture
def other() -> Iterator[int]:
    """A process that waits for the end of its input."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield process.pid


def slack(pid: int) -> Path:
    return Path(f"/proc/{pid}/timerslack_ns")


def test_what_was_lent_is_taken_back(other: int) -> None:
    os.setpriority(os.PRIO_PROCESS, other, 7)
    slack(other).write_text("70000")
    lent = LentPriority()
    lent.lend(other)
    lent.lend(other)
    assert os.sched_getscheduler(other) == os.SCHED_RR | os.SCHED_RESET_ON_FORK
    lent.take_back(other)
    assert os.sched_getscheduler(other) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, other) == 7
    assert slack(other).read_text() == "70000\n"


def test_all_is_taken_back_at_once(other: int) -> None:
    os.sched_setscheduler(other, os.SCHED_BATCH, os.sched_param(0))
    lent = LentPriority()
    lent.lend(other)
    lent.take_back()
    lent.take_back()
    assert os.sched_getscheduler(other) == os.SCHED_BATCH


def test_a_thread_with_a_priority_of_its_own_keeps_it(other: int) -> None:
    os.sched_setscheduler(other, os.SCHED_RR, os.sched_param(5))
    lent = LentPriority()
    lent.lend(other)
    assert (os.sched_getscheduler(other), os.sched_getparam(other).sched_priority) == (os.SCHED_RR, 5)
    lent.take_back(other)
    assert (os.sched_getscheduler(other), os.sched_getparam(other).sched_priority) == (os.SCHED_RR, 5)


def test_who_is_gone_gets_nothing(other: int) -> None:
    lent = LentPriority()
    lent.lend(other)
    os.kill(other, 9)
    os.waitid(os.P_PID, other, os.WEXITED)
    lent.take_back()
    lent.lend(other)
    lent.take_back()


def test_what_a_killed_agent_had_lent_is_ended_by_whoever_comes_after_it(other: int) -> None:
    os.setpriority(os.PRIO_PROCESS, other, 7)
    LentPriority().lend(other)
    assert end_lent_priority(other) == 1
    assert os.sched_getscheduler(other) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, other) == 7
    assert int(slack(other).read_text()) > 0
    assert end_lent_priority(other) == 0


def test_a_priority_that_the_program_took_itself_is_not_ended(other: int) -> None:
    for policy in (os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.SCHED_RR):
        os.sched_setscheduler(other, policy, os.sched_param(1))
        assert end_lent_priority(other) == 0
        assert os.sched_getscheduler(other) == policy
