"""What this kernel can do, with and without the privileges for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from agent.probe import PROBES, TRACING, probe_kernel

ROOT = Path(__file__).resolve().parent.parent.parent
NEED_PRIVILEGE = {"chosen process ids", "time namespaces", "TCP repair", "packet sockets"}


def probes_without_privileges() -> dict[str, bool]:
    """Which probes work for the user nobody, who has no capability."""
    drop = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--bounding-set", "-all"]
    command = [*drop, "--inh-caps", "-all", sys.executable, "-c", "import agent.probe, json, dataclasses, sys;"]
    command[-1] += "json.dump([dataclasses.asdict(p) for p in agent.probe.run_probes()], sys.stdout)"
    done = subprocess.run(command, capture_output=True, check=True, cwd="/", env={"PYTHONPATH": str(ROOT)})
    return {entry["name"]: entry["works"] for entry in json.loads(done.stdout)}


def test_everything_works_for_root() -> None:
    found = probe_kernel()
    assert [probe.name for probe in found] == list(PROBES)
    assert not [probe for probe in found if not probe.works]


def test_the_size_of_the_registers_is_measured() -> None:
    tracing = next(probe for probe in probe_kernel() if probe.name == TRACING)
    assert tracing.value >= 576
    assert str(tracing.value) in tracing.detail


def test_what_takes_privileges_does_not_work_without() -> None:
    found = probes_without_privileges()
    assert {name for name, works in found.items() if not works} == NEED_PRIVILEGE
