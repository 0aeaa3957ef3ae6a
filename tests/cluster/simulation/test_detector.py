"""Nodes that are slow, and nothing else: nobody is accused, and nothing moves."""

from __future__ import annotations

import random

import pytest

from cluster.leader.detector import Detector
from cluster.leader.takeover import Takeover
from cluster.leader.watch import Watch
from cluster.registry.values import ProgramEntry
from tests.cluster.simulation.chaos import Ended, finish, leader, new_world, primary
from tests.cluster.simulation.trace import violations

SEEDS = range(8)
NAP_S = (0.04, 0.20)
"""Shorter than a leader's lease: whoever sleeps longer leads no more, and rightly."""
JITTER_S = 0.03
STORY_S = 20.0


def _slow_story(seed: int) -> Ended:
    """Daemons sleep now and then, the leader's most of all, and messages take their time."""
    world = new_world(seed)
    dice = random.Random(seed ^ 0x51EE9)
    world.run(3.0)
    world.jitter_s = JITTER_S
    while world.now_s < STORY_S:
        victim = dice.choice([leader(world), leader(world), primary(world), *world.nodes.values()])
        victim.hung_until_s = world.now_s + dice.uniform(*NAP_S)
        world.run(world.now_s + dice.uniform(0.3, 0.6))
    world.jitter_s = 0.003
    return finish(world)


def test_no_story_of_slow_nodes_moves_a_program() -> None:
    for seed in SEEDS:
        ended = _slow_story(seed)
        assert not violations(ended.world.trace), f"seed {seed}"
        assert ended.promotions == 1, f"seed {seed}: {ended.world.trace.faults}"


def _accusations(monkeypatch: pytest.MonkeyPatch, seeds: range) -> int:
    """How often a leader set about a takeover, in stories in which it alone sleeps now and then."""
    begun: list[str] = []
    take_over = Watch._take_over

    def noted(self: Watch, now_s: float, entry: ProgramEntry, reason: str, **options: bool) -> Takeover:
        begun.append(reason)
        return take_over(self, now_s, entry, reason, **options)

    monkeypatch.setattr(Watch, "_take_over", noted)
    for seed in seeds:
        world, dice = new_world(seed), random.Random(seed ^ 0x51EE9)
        world.run(3.0)
        while world.now_s < STORY_S:
            leader(world).hung_until_s = world.now_s + dice.uniform(*NAP_S)
            world.run(world.now_s + dice.uniform(0.3, 0.6))
    return sum(reason.endswith("is lost") for reason in begun)


def test_a_leader_that_sleeps_accuses_nobody_because_it_knows_of_its_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _accusations(monkeypatch, SEEDS) == 0
    monkeypatch.setattr(Detector, "awake", lambda self, now_s: None)
    assert _accusations(monkeypatch, SEEDS) > 0
