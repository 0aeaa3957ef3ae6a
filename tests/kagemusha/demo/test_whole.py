"""The demo of two nodes as a person runs it, with real agents and a real redis: what was promised is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nodes

ROOT = Path(__file__).parents[3]
RUN_S_MAX = 240


def test_a_killed_program_a_switchover_and_a_lost_node() -> None:
    command = [sys.executable, "-m", "kagemusha", "demo", "--pair", "--json", "--memory-mib", "16", "--rounds", "2"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    takeovers = report["takeovers"]
    kinds = ["process_killed", "process_killed", "switchover", "node_killed"]
    assert [takeover["kind"] for takeover in takeovers] == kinds
    assert [takeover["token"] for takeover in takeovers] == [2, 3, 4, 5]
    for takeover in takeovers:
        assert takeover["connections_hung"] == 0
        assert takeover["connections_idle_survived"] == takeover["connections_idle"] == 20
        assert takeover["writes_acknowledged"] > 0
    for takeover in takeovers[:3]:
        assert takeover["writes_lost"] == 0
        assert takeover["connections_busy_survived"] == takeover["connections_busy"] == 20
    assert report["pause_us"]["p50"] > 0
    assert report["checkpoints"] > 0
