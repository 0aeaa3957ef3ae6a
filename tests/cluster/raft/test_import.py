"""The Raft library must not change the process that imports it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import socket
before = socket.inet_pton, socket.inet_ntop
import cluster.raft.member
assert (socket.inet_pton, socket.inet_ntop) == before
print(socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "fd00::1")))
"""


def test_addresses_are_still_read_and_written_by_the_standard_library() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "fd00::1"
