"""Processes can be put into a cgroup for a time, whatever their priority, and nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cgroup import Cgroup, clear_crashed_cgroups

pytestmark = pytest.mark.skipif(not Path("/sys/fs/cgroup/freezer").is_dir(), reason="cgroups are not of version 1 here")


@pytest.fixture
def pid() -> Iterator[int]:
    """A process that sleeps, with real-time priority, as the watchdog has it."""
    with subprocess.Popen(["sleep", "60"]) as process:
        os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
        yield process.pid
        process.kill()


def test_a_process_is_frozen_and_goes_on(pid: int) -> None:
    cgroup = Cgroup("freezer", "test")
    cgroup.take([pid], {})
    cgroup.write("freezer.state", "FROZEN")
    assert cgroup.read("freezer.state") == "FROZEN"
    cgroup.write("freezer.state", "THAWED")
    cgroup.release()
    with pytest.raises(OSError, match="No such file"):
        cgroup.read("freezer.state")


def test_a_process_gets_little_of_a_processor(pid: int) -> None:
    cgroup = Cgroup("cpu", "test")
    cgroup.take([pid], {"cpu.cfs_quota_us": "5000", "cpu.rt_runtime_us": "50000"})
    assert cgroup.read("cpu.cfs_quota_us") == "5000"
    assert cgroup.read("cgroup.procs") == str(pid)
    cgroup.release()


def test_what_has_ended_is_no_obstacle(pid: int) -> None:
    cgroup = Cgroup("freezer", "gone")
    cgroup.take([pid], {})
    os.kill(pid, 9)
    cgroup.release()


def test_who_has_ended_since_all_were_looked_for_is_passed_over(pid: int) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    cgroup = Cgroup("freezer", "all")
    with pytest.raises(ProcessLookupError):
        cgroup.take([gone.pid], {})
    cgroup.release()
    cgroup.take_all([gone.pid, pid], {})
    assert cgroup.read("cgroup.procs") == str(pid)
    cgroup.release()


def test_a_process_that_wants_more_memory_than_there_is_is_killed_or_waits() -> None:
    grow = "import sys; sys.stdin.read(); sys.stdout.write(str(len(bytearray(64 << 20))))"
    for waits in (False, True):
        cgroup = Cgroup("memory", "test")
        with subprocess.Popen([sys.executable, "-c", grow], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            cgroup.take([process.pid], {"memory.limit_in_bytes": str(1 << 20), "memory.oom_control": str(int(waits))})
            assert process.stdin is not None
            process.stdin.close()
            if waits:
                while "under_oom 1" not in cgroup.read("memory.oom_control"):
                    assert process.poll() is None
                cgroup.write("memory.limit_in_bytes", str(1 << 40))
            assert process.wait() == (0 if waits else -9)
        assert ("oom_kill 0" in cgroup.read("memory.oom_control")) is waits
        cgroup.release()


def test_what_a_run_that_was_killed_has_left_is_removed(pid: int) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    left = Path(f"/sys/fs/cgroup/freezer/kgm-{gone.pid}-frozen-a")
    left.mkdir()
    (left / "cgroup.procs").write_text(str(pid))
    (left / "freezer.state").write_text("FROZEN")
    mine = Cgroup("freezer", "living")
    mine.take([], {})
    clear_crashed_cgroups()
    assert not left.exists()
    assert f"kgm-{gone.pid}" not in Path(f"/proc/{pid}/cgroup").read_text()
    mine.release()
