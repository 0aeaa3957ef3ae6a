"""Both programs of the demo under a cluster: each is killed, and a warm instance goes on with its data."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from kagemusha.demo.display import Display
from kagemusha.demo.nodes import Directory, Machines
from kagemusha.demo.structures.programs import BUILDS
from kagemusha.demo.structures.report import Report
from kagemusha.demo.structures.scenario import NODES, Scenario, Story

pytestmark = pytest.mark.nodes

SHORT = Story({}, interval_ms=20, clients=4, per_second=100, measure_s=0.5, fill_share=0.05, nodes_die=False)


@pytest.fixture
def trio(directory: Directory) -> Iterator[Machines]:
    """Three nodes and a client."""
    machines = Machines(directory, NODES)
    yield machines
    machines.close()


async def play(machines: Machines) -> Report:
    scenario = Scenario(SHORT, Display(io.StringIO()), machines)
    try:
        return await scenario.play()
    finally:
        machines.close()
        await scenario.close()


async def test_a_c_program_of_another_build_and_an_exchange_in_python_go_on_after_a_kill(trio: Machines) -> None:
    report = await play(trio)
    assert report.broken_promises() == []
    exchange, sessions = report.takeovers
    assert [(one.program, one.kind, one.source) for one in report.takeovers] == [
        ("exchange", "process_killed", "a"),
        ("sessions", "process_killed", "a"),
    ]
    for one in report.takeovers:
        assert one.target in ("b", "c")
        assert one.acknowledged > 0
    # The table is read once more on its way out, and written into a program that was compiled in another way.
    assert sessions.lost == 0
    assert BUILDS[sessions.target] != BUILDS[sessions.source]
    # What a mirror had said that it holds.
    assert exchange.sure > exchange.sure_lost == 0
