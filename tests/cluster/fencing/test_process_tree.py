"""Stopping real processes one by one, where there is no cgroup."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent.kernel import ptrace, wait
from cluster.fencing.cgroup import CgroupError, ProgramCgroup
from cluster.fencing.process_tree import ProcessTree, Unseen, descendants
from tests.cluster.fencing.test_cgroup import DEADLINE_S, counting, writes_nothing_more


@pytest.mark.parametrize("nested", [False, True])
def test_what_is_frozen_stands_still_until_it_is_thawed(nested: bool) -> None:
    with counting(nested=nested) as process:
        assert process.stdout is not None
        tree = ProcessTree(process.pid)
        assert len(tree.processes()) == 1 + nested
        assert not tree.is_frozen()
        tree.freeze()
        assert tree.await_frozen(time.monotonic() + DEADLINE_S)
        assert writes_nothing_more(process.stdout)
        tree.thaw()
        assert process.stdout.readline()
        assert not tree.is_frozen()
        tree.kill()
        process.wait(DEADLINE_S)


def test_what_is_frozen_can_be_killed_with_all_that_it_has_made() -> None:
    with counting(nested=True) as process:
        tree = ProcessTree(process.pid)
        _, child = tree.processes()
        handle = os.pidfd_open(child)
        tree.freeze()
        assert tree.await_frozen(time.monotonic() + DEADLINE_S)
        tree.kill()
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
        # Whoever adopted it may not have reaped it: it has ended all the same.
        assert wait_for_end(handle)


def test_a_traced_process_may_go_on_at_any_moment_and_does_not_count_as_frozen() -> None:
    with counting() as process:
        ptrace.seize(process.pid, 0)
        ptrace.interrupt(process.pid)
        wait.wait_for(process.pid)
        tree = ProcessTree(process.pid)
        assert not tree.await_frozen(time.monotonic() + DEADLINE_S)
        tree.kill()
        process.wait(DEADLINE_S)


def test_a_process_that_is_gone_is_no_trouble() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    tree = ProcessTree(process.pid)
    tree.freeze()
    assert tree.is_frozen()
    tree.thaw()
    tree.kill()
    assert descendants(process.pid) == []


def wait_for_end(handle: int) -> bool:
    """Whether the process behind a pidfd ends; closes it."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    try:
        return bool(poll.poll(DEADLINE_S * 1000))
    finally:
        os.close(handle)


def test_what_can_not_be_looked_at_is_neither_frozen_nor_gone() -> None:
    tree = ProcessTree(os.getpid())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(Unseen, match=f"/proc/{os.getpid()}/task: Too many open files"):
            tree.is_frozen()
        with pytest.raises(CgroupError, match="Too many open files"):
            ProgramCgroup(Path("/proc")).processes()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
