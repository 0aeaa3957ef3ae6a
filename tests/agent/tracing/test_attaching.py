"""Attaching to threads: to one that runs, to one that is attached already, to one that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from agent.errors import KernelError
from agent.tracing.attaching import attach


def test_a_process_is_attached_once_and_stays_so() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert attach(process.pid, process.pid, 0)
        assert attach(process.pid, process.pid, 0)
        process.kill()
    assert not attach(process.pid, process.pid, 0)


def test_who_may_not_be_traced_is_said() -> None:
    with pytest.raises(KernelError, match="SEIZE"):
        attach(os.getpid(), threading.get_native_id(), 0)
