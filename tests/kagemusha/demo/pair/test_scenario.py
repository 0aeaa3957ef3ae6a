"""The whole story with an agent that mirrors nothing: everything moves, and the report says that nothing was kept."""

from __future__ import annotations

import io
import json

import pytest

from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Machines
from kagemusha.demo.pair import agents
from kagemusha.demo.pair.conductor import Takeover as Seen
from kagemusha.demo.pair.scenario import PairScenario, time_line
from kagemusha.demo.report import Report, Step
from kagemusha.demo.scenario import client_steps
from kagemusha.demo.story import Story

QUICK = Story(memory_mib=1, rounds=1, measure_s=0.2, warm_up_s=0.1, idle=2, busy=3, anew=1)
PLAIN_AGENT = ("-m", "tests.kagemusha.demo.pair.plain_agent")


async def play(machines: Machines, story: Story) -> tuple[Report, str]:
    """The report, and what a person saw."""
    file = io.StringIO()
    scenario = PairScenario(story, Display(file), machines)
    try:
        return await scenario.play(), file.getvalue()
    finally:
        machines.close()
        await scenario.close()


async def test_an_agent_that_mirrors_nothing_is_found_out(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "COMMAND", PLAIN_AGENT)
    report, said = await play(machines, QUICK)
    takeovers = json.loads(report.to_json())["takeovers"]
    kinds = ["process_killed", "switchover", "node_killed"]
    assert [one["kind"] for one in takeovers] == kinds
    assert [(one["from"], one["to"], one["token"]) for one in takeovers] == [
        ("a", "b", 2),
        ("b", "a", 3),
        ("a", "b", 4),
    ]
    for one in takeovers:
        assert one["writes_lost"] > 0
        assert (one["connections_idle_survived"], one["connections_busy_survived"]) == (0, 0)
    for kind in kinds:
        assert any(kind in line and "idle connections survived" in line for line in report.broken_promises())
        assert any(kind in line and "reported staleness" in line for line in report.broken_promises())
    assert "✗" in said


async def test_an_agent_that_does_not_start_is_one_line_with_its_own_words(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "COMMAND", ("-c", "raise SystemExit('this kernel is too old')"))
    with pytest.raises(DemoError, match="the agent of node a ended with status 1: this kernel is too old") as failed:
        await play(machines, QUICK)
    assert str(machines.directory.logs) in failed.value.hint


def test_the_time_line_has_the_agents_steps_one_after_the_other_from_the_order_on() -> None:
    seen = Seen(ended_ns=12_000_000, told_ns=13_000_000, serves_ns=20_000_000, last_gasp=True)
    seen.timeline = (("prepare", 500), ("go", 250))
    outcome = {"first_answered_ns": 17_000_000, "gaps_ns": {"busy": 8_000_000, "anew": 9_000_000}}
    steps = [*time_line("process_killed", seen, 10_000_000), *client_steps(10_000_000, outcome)]
    assert steps == [
        Step("death, last checkpoint", 0.0, 2.0),
        Step("controller decides", 2.0, 1.0),
        Step("prepare", 3.0, 0.5),
        Step("go", 3.5, 0.25),
        Step("client: first reply", 0.0, 7.0),
        Step("client: longest gap", 0.0, 8.0),
        Step("client: longest gap, connecting", 0.0, 9.0),
    ]
