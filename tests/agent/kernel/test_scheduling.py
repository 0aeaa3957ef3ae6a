"""How a thread is scheduled; in a thread of its own, so that the tests' own thread stays as it is."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable

import pytest

from agent.errors import KernelError
from agent.kernel import scheduling


def in_a_thread(job: Callable[[], object]) -> object:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(job()))
    thread.start()
    thread.join()
    return results[0]


def test_a_thread_becomes_realtime_alone() -> None:
    def job() -> tuple[int, int]:
        scheduling.be_realtime(2)
        during = os.sched_getscheduler(0)
        scheduling.be_ordinary()
        return during, os.sched_getscheduler(0)

    assert in_a_thread(job) == (os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.SCHED_OTHER)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_thread_is_prompt_and_its_children_are_not() -> None:
    def job() -> tuple[int, bytes, int]:
        scheduling.be_prompt()
        during, of_child = os.getpriority(os.PRIO_PROCESS, 0), subprocess.check_output(["nice"])
        scheduling.end_promptness()
        return during, of_child, os.getpriority(os.PRIO_PROCESS, 0)

    assert in_a_thread(job) == (scheduling.PROMPT_NICE, b"0\n", 0)


def test_a_thread_stays_on_its_cpus() -> None:
    cpu = min(os.sched_getaffinity(0))

    def job() -> set[int]:
        scheduling.run_on({cpu})
        scheduling.wake_exactly()
        return os.sched_getaffinity(0)

    assert in_a_thread(job) == {cpu}
    with pytest.raises(KernelError, match="sched_setaffinity"):
        scheduling.run_on(set())


def test_memory_can_be_locked() -> None:
    import numpy as np

    pages = np.zeros(4096, np.uint8)
    scheduling.lock_range(pages.ctypes.data, 4096)
