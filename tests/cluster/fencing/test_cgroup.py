"""Freezing real processes, by whatever freezer this machine has."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from cluster.fencing.cgroup import CgroupError, ProgramCgroup

DEADLINE_S = 20.0
COUNTER = "i=0; while :; do i=$((i+1)); echo $i; done"


MOUNTS = Path("/proc/self/mounts")


def freezers() -> list[str]:
    """The lines of this machine's mounts that have a freezer: that of v2, that of v1, or both."""
    lines = [line for line in MOUNTS.read_text().splitlines() if line.split()[2] in ("cgroup", "cgroup2")]
    return [line for line in lines if line.split()[2] == "cgroup2" or "freezer" in line.split()[3].split(",")]


@pytest.fixture(params=freezers(), ids=lambda line: line.split()[2])
def cgroup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProgramCgroup]:
    """A cgroup of this test, in each hierarchy that has a freezer here."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"{request.param}\n")
    made = ProgramCgroup.create(f"kgm-{os.getpid()}/program", mounts)
    yield made
    made.kill()
    limit_s = time.monotonic() + DEADLINE_S
    while made.directory.exists() and time.monotonic() < limit_s:
        made.remove()
    made.directory.parent.rmdir()


@contextmanager
def counting(*, nested: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A program that writes numbers as long as it runs; nested: a child of it does."""
    script = f"sh -c '{COUNTER}' & wait" if nested else COUNTER
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()
        process.stdout.close()


def writes_nothing_more(pipe: IO[bytes]) -> bool:
    """Whether nothing comes any more when what was on its way is read: everything that could write is frozen."""
    os.set_blocking(pipe.fileno(), False)
    while pipe.read(1 << 16):
        pass
    is_still = pipe.read(1) is None
    os.set_blocking(pipe.fileno(), True)
    return is_still


@pytest.mark.parametrize("nested", [False, True])
def test_what_is_frozen_stands_still_until_it_is_thawed(cgroup: ProgramCgroup, nested: bool) -> None:
    with counting(nested=nested) as process:
        assert process.stdout is not None
        cgroup.add(process.pid)
        assert process.pid in cgroup.processes()
        assert len(cgroup.processes()) == 1 + nested
        assert not cgroup.is_frozen()
        cgroup.freeze()
        assert cgroup.await_frozen(time.monotonic() + DEADLINE_S)
        assert writes_nothing_more(process.stdout)
        cgroup.thaw()
        assert process.stdout.readline()
        assert not cgroup.is_frozen()
        cgroup.kill()
        process.wait(DEADLINE_S)


def test_what_is_frozen_can_be_killed(cgroup: ProgramCgroup) -> None:
    with counting() as process:
        cgroup.add(process.pid)
        cgroup.freeze()
        assert cgroup.await_frozen(time.monotonic() + DEADLINE_S)
        cgroup.kill()
        assert process.wait(DEADLINE_S) == -9


def test_a_process_that_is_gone_is_no_trouble(cgroup: ProgramCgroup) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    cgroup.add(process.pid)
    assert cgroup.processes() == set()


def test_no_freezer(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"cgroup2 {tmp_path} cgroup2 rw 0 0\ncgroup {tmp_path} cgroup rw,cpu 0 0\n")
    with pytest.raises(CgroupError, match=r"has no cgroup\.freeze"):
        ProgramCgroup.create("a/b", mounts)
    assert not (tmp_path / "a").exists()
