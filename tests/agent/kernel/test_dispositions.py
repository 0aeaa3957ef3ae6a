"""Signals that the C library keeps to itself get their default action all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from agent.kernel import procfs
from agent.kernel.dispositions import set_default
from agent.kernel.libc import NR
number = int(sys.argv[1])
ignored = (ctypes.c_uint64 * 4)(1)
ctypes.CDLL(None).syscall(NR.RT_SIGACTION, number, ctypes.addressof(ignored), 0, 8)
import os
before = procfs.status(os.getpid()).ignored
set_default(number)
after = open("/proc/self/status").read().split("SigIgn:")[1].split()[0]
print(before >> (number - 1) & 1, int(after, 16) >> (number - 1) & 1)
"""


@pytest.mark.parametrize("number", [32, 33])
def test_an_ignored_signal_of_the_library_is_ignored_no_more(number: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(number)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["1", "0"]
