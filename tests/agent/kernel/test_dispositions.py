"""Signals that the C library keeps to itself get their default action all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from agent.kernel.dispositions import set_default
from agent.kernel.libc import NR
number = int(sys.argv[1])
library = ctypes.CDLL(None)
ignored = (ctypes.c_uint64 * 4)(1)


def is_ignored():
    with open("/proc/self/status") as file:
        words = dict(line.split(":", 1) for line in file)
    return int(words["SigIgn"], 16) >> (number - 1) & 1


library.syscall(int(NR.RT_SIGACTION), number, ctypes.c_void_p(ctypes.addressof(ignored)), None, 8)
before = is_ignored()
set_default(number)
print(before, is_ignored())
"""


@pytest.mark.parametrize("number", [32, 33])
def test_an_ignored_signal_of_the_library_is_ignored_no_more(number: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(number)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["1", "0"]
