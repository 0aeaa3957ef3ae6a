"""The clocks of one node's processes are set while they run, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from kagemusha.demo.nodes import Node
from tests.chaos.clocks.node_clocks import NodeClocks

_TELL = """
import datetime, sys, time
for _ in sys.stdin:
    wall = [time.time(), time.time_ns() / 1e9, datetime.datetime.now().timestamp()]
    print(*wall, time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""
_HOUR_S = 3600.0
_CLOSE_S = 60.0
"""Far less than what the clocks are set by: no more is asked of the machine."""


def test_clocks_are_set_while_a_process_runs(node: Node) -> None:
    clocks = NodeClocks(node)
    words = node.command(sys.executable, "-I", "-S", "-c", _TELL)
    environment = {**os.environ, **clocks.environment}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> list[float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            *walls, monotonic, boot = map(float, process.stdout.readline().split())
            return [*(wall - time.time() for wall in walls), boot - monotonic]

        right = pytest.approx([0.0] * 3, abs=_CLOSE_S)
        first = ask()
        assert first[:3] == right
        assert clocks.is_used_by(process.pid)
        assert not clocks.is_used_by(os.getpid())

        clocks.set_wall(_HOUR_S)
        assert ask()[:3] == pytest.approx([_HOUR_S] * 3, abs=_CLOSE_S)
        clocks.set_wall(-_HOUR_S)
        assert ask()[:3] == pytest.approx([-_HOUR_S] * 3, abs=_CLOSE_S)
        clocks.set_wall(0.0)
        clocks.sleep(_HOUR_S)
        woken = ask()
        assert woken[3] - first[3] == pytest.approx(_HOUR_S, abs=_CLOSE_S)
        process.stdin.close()
