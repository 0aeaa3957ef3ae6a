"""The table of descriptors has room ahead: /proc says how large it is (proc(5), FDSize)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from agent.kernel.descriptor_table import make_room

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import os
from agent.kernel.descriptor_table import make_room
def size():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("FDSize"))
def open_ones():
    return len(os.listdir("/proc/self/fd"))
before, ones = size(), open_ones()
make_room(1000)
print(before, size(), open_ones() - ones)
"""


def test_a_process_has_room_and_nothing_more_open() -> None:
    said = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before, after, more = (int(word) for word in said.split())
    assert before < 1000 <= after
    assert more == 0


def test_the_limit_is_respected() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert make_room(1 << 30) == limit
    assert len(os.listdir("/proc/self/fd")) < limit
