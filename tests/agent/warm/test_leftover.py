"""Whom an agent before this one has left is ended, and nobody else."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import KernelError
from agent.launch.spawn_request import NO_NAMESPACE
from agent.warm.leftover import end_leftover, remember
from transport.errors import ControlError


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as started:
        yield started
        started.kill()


def test_what_is_left_is_ended(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    remember(tmp_path / "program", process.pid, NO_NAMESPACE)
    end_leftover(tmp_path / "program")
    assert process.wait() == -signal.SIGKILL
    end_leftover(tmp_path / "program")
    end_leftover(tmp_path / "none")


def test_another_process_under_that_number_is_spared(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "program").write_text(f"{process.pid} 1 {NO_NAMESPACE}\n")
    end_leftover(tmp_path / "program")
    assert process.poll() is None


def test_what_can_not_be_written_down_is_said(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"none/program: No such file.*"):
        remember(tmp_path / "none" / "program", process.pid, NO_NAMESPACE)


def test_what_can_not_be_looked_at_is_not_said_to_be_gone(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    remember(tmp_path / "program", process.pid, NO_NAMESPACE)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    for descriptors in (0, free + 1):  # for nothing, and for the first thing that is opened, but not for the next
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, limits[1]))
        try:
            with pytest.raises((KernelError, ControlError), match="Too many open files"):
                end_leftover(tmp_path / "program")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert process.poll() is None
