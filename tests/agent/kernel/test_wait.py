"""What wait statuses mean, and who gets them."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from agent.errors import KernelError, TraceeGone
from agent.kernel import ptrace, wait
from agent.kernel.wait import StopEvent


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x80057F, {"is_interrupt": True, "event": wait.EVENT_STOP, "stopped": True}),
        (0x80137F, {"is_group_stop": True, "is_interrupt": False}),
        (0x06057F, {"event": wait.EVENT_EXIT, "is_signal_delivery": False}),
        (0x000F7F, {"is_signal_delivery": True, "signal": signal.SIGTERM, "is_group_stop": False}),
        (0x00137F, {"is_signal_delivery": True, "is_group_stop": False}),
        (0x00857F, {"signal": signal.SIGTRAP | 0x80}),
        (0x000300, {"exited": True, "exit_code": 3}),
        (0x00008B, {"exited": True, "exit_code": -signal.SIGSEGV}),
        (0x000009, {"exited": True, "exit_code": -signal.SIGKILL}),
    ],
)
def test_statuses_are_understood(status: int, expected: dict[str, object]) -> None:
    event = StopEvent(5, status)
    assert {name: getattr(event, name) for name in expected} == expected


def test_a_tracee_is_waited_for() -> None:
    process = subprocess.Popen(["/bin/sleep", "100"])
    try:
        ptrace.seize(process.pid, 0)
        assert wait.poll(process.pid) is None
        ptrace.interrupt(process.pid)
        event = wait.wait_for(process.pid)
        assert (event.tid, event.is_interrupt) == (process.pid, True)
        assert wait.poll_any() is None
    finally:
        process.kill()
        process.wait()


def test_nobody_to_wait_for_is_a_value() -> None:
    with pytest.raises(TraceeGone):
        wait.wait_for(1)
    with pytest.raises(TraceeGone):
        wait.poll(1)
    assert wait.reap(1) is None


def test_a_child_is_reaped_once() -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "exit 4"])
    status = wait.reap(process.pid)
    assert status is not None
    assert os.waitstatus_to_exitcode(status) == 4
    assert wait.reap(process.pid) is None
    process.returncode = 4


def test_who_does_not_end_in_time_is_named() -> None:
    with subprocess.Popen(["/bin/sleep", "100"]) as process:
        with pytest.raises(KernelError, match=f"process {process.pid}.*ETIMEDOUT"):
            wait.reap(process.pid, 0.01)
        process.kill()
        status = wait.reap(process.pid, 10)
        assert status is not None
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        process.returncode = -signal.SIGKILL


def test_a_childs_event_wakes() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        assert wait.who_takes_child_signals() == []
        while wait.await_child_signal(0):
            pass
        assert not wait.await_child_signal(0.001)
        assert not wait.await_child_signal_free(0.001)
        with subprocess.Popen(["/bin/true"]):
            assert wait.await_child_signal(10)
        with subprocess.Popen(["/bin/true"]):
            assert wait.await_child_signal_free(10)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert wait.who_takes_child_signals() == [os.getpid()]
