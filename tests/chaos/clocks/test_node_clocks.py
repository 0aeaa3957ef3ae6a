"""The clocks of one node's processes are set while they run, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kagemusha.demo.nodes import Directory, Node, new_run_id
from tests.chaos.clocks.node_clocks import NodeClocks
from tests.leftovers import DEMO_RUNS

_TELL = """
import datetime, sys, time
for _ in sys.stdin:
    wall = [time.time(), time.time_ns() / 1e9, datetime.datetime.now().timestamp()]
    print(*wall, time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""
_HOUR_S = 3600.0
_CLOSE_S = 60.0
"""Far less than what the clocks are set by: no more is asked of the machine."""


@pytest.fixture
def node() -> Iterator[Node]:
    """A node that is on no bridge."""
    directory = Directory(new_run_id(), DEMO_RUNS)
    node = Node(directory, "a", 1)
    yield node
    node.close()
    directory.close(keep=False)


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
