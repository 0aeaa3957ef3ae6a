"""Plans: the same seed gives the same one, every kind has its turn, and a file gives the plan that was written."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos.faults.all import FAULTS, KINDS, kinds_with
from tests.chaos.nemesis import loss_of
from tests.chaos.observer import Roles
from tests.chaos.plan import Plan, PlanError, Target, make_plan, make_soak
from tests.chaos.shrink import shrink

FEW: dict[str, Sequence[Target]] = {"one": ("primary",), "two": ("mirror", "leader"), "three": ("follower",)}
SEEDS = range(50)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_plan(seed: int) -> None:
    plan = make_plan(seed, 60, KINDS)
    assert plan == make_plan(seed, 60, dict(reversed(KINDS.items())))
    assert plan.steps
    for strike in (strike for step in plan.steps for strike in step.strikes):
        assert strike.target in KINDS[strike.kind]


def test_other_seeds_give_other_plans() -> None:
    plans = [make_plan(seed, 60, KINDS).steps for seed in SEEDS]
    assert all(first != second for first, second in pairwise(plans))


def test_every_kind_comes_before_any_comes_again() -> None:
    kinds = [strike.kind for step in make_plan(3, 300, FEW).steps for strike in step.strikes]
    for start in range(0, len(kinds) - 3, 3):
        assert set(kinds[start : start + 3]) == set(FEW)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_soak_is_half_harm_and_half_quiet(seed: int) -> None:
    kinds = kinds_with("address", daemons_live=True)
    plan = make_soak(seed, 3600, kinds)
    *harm, last = plan.steps
    assert last.rest_s == 1800
    assert 1700 < sum(step.for_s + step.rest_s for step in harm) < 1830
    assert all(len(step.strikes) == 1 for step in plan.steps)
    assert {strike.kind for step in plan.steps for strike in step.strikes} == set(kinds)


def test_what_ends_a_daemon_is_in_no_soak() -> None:
    kinds = kinds_with("address", daemons_live=True)
    assert {"program-killed", "agent-killed", "switched-over", "isolated"} <= set(kinds)
    assert not {"daemon-killed", "node-killed", "power-lost", "upgraded", "wrong-cluster", "disk-lost"} & set(kinds)


def test_now_and_then_two_are_done_at_once() -> None:
    counts = {len(step.strikes) for seed in SEEDS for step in make_plan(seed, 60, KINDS).steps}
    assert counts == {1, 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_that_was_written_is_the_same(seed: int) -> None:
    plan = make_plan(seed, 60, KINDS)
    assert Plan.parse(plan.text(), KINDS) == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"seed": 1, "steps": []}',
        '{"seed": 1, "steps": [{"strikes": [{"kind": "flood", "target": "primary"}], "for_s": 1, "rest_s": 1}]}',
        '{"seed": 1, "steps": [{"strikes": [{"kind": "cut-off", "target": "nobody"}], "for_s": 1, "rest_s": 1}]}',
        '{"seed": 1, "steps": [{"strikes": [{"kind": "cut-off", "target": "primary"}]}]}',
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="no plan"):
        Plan.parse(text, KINDS)


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "plans").glob("*.json")), ids=lambda path: path.stem)
def test_the_plans_that_are_kept_can_be_read(path: Path) -> None:
    assert Plan.parse(path.read_text(), KINDS).steps


def test_faults_are_known_by_their_names() -> None:
    assert all(FAULTS[kind].kind == kind for kind in KINDS)
    assert len(KINDS) >= 15


def test_what_harms_keepalived_is_done_where_it_carries_the_address() -> None:
    assert "track-stale" in kinds_with("keepalived")
    assert "track-stale" not in kinds_with("address")
    assert set(kinds_with("address")) < set(kinds_with("keepalived")) == set(KINDS)
    assert set(kinds_with("keepalived")) - set(kinds_with("keepalived", "c")) == {"program-out-of-memory"}


@pytest.mark.parametrize("culprits", [{7}, {0, 15}, {3, 4, 9}, set(range(16))])
async def test_the_shortest_plan_that_fails_is_found(culprits: set[int]) -> None:
    async def fails(items: Sequence[int]) -> bool:
        return culprits <= set(items)

    assert await shrink(range(16), fails, trials_max=1000) == sorted(culprits)


async def test_shrinking_ends_when_its_trials_are_used_up() -> None:
    trials = []

    async def fails(items: Sequence[int]) -> bool:
        trials.append(items)
        return 5 in items

    found = await shrink(range(64), fails, trials_max=3)
    assert len(trials) == 3
    assert 5 in found


@pytest.mark.parametrize("seed", range(20))
def test_a_target_is_who_has_the_role(seed: int) -> None:
    roles, chance = Roles(primary="a", leader="b", names="abc"), random.Random(seed)
    assert roles.node_of("primary", chance) == "a"
    assert roles.node_of("leader", chance) == "b"
    assert roles.node_of("mirror", chance) in ("b", "c")
    assert roles.node_of("follower", chance) in ("a", "c")
    assert [node for node in "abc" if roles.stands_by(node)] == ["c"]


def test_what_faults_may_cost() -> None:
    assert loss_of(["staleness"], stands_by=False) == "staleness"
    assert loss_of(["staleness"], stands_by=True) == "nothing"
    assert loss_of(["nothing", "nothing"], stands_by=True) == "everything"
