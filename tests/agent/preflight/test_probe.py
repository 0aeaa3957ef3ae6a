"""What this kernel can do, with and without the privileges for it."""

from __future__ import annotations

import json

from agent.preflight.probe import PROBES, TRACING, probe_kernel
from tests.unprivileged import run_as_nobody

NEED_PRIVILEGE = {"chosen process ids", "time namespaces", "TCP repair", "packet sockets"}


def probes_without_privileges() -> dict[str, bool]:
    """Which probes work for the user nobody."""
    code = "json.dump([dataclasses.asdict(probe) for probe in agent.preflight.probe.run_probes()], sys.stdout)"
    done = run_as_nobody("import agent.preflight.probe, dataclasses, json", code)
    assert done.returncode == 0, done.stderr
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
