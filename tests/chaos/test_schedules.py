"""A bounded share of what chaos does: a few schedules of half a minute, and every plan that once found something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.faults.all import KINDS, kinds_with
from tests.chaos.plan import Plan, make_plan
from tests.chaos.run import carry_out

pytestmark = pytest.mark.nodes

PLANS = sorted((Path(__file__).parent / "plans").glob("*.json"))
SECONDS = 30.0
ATTEMPTS_MAX = 3


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_schedule_keeps_everything(seed: int) -> None:
    await _is_kept(make_plan(seed, SECONDS, kinds_with("address")))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
async def test_what_once_found_something_finds_it_no_more(path: Path) -> None:
    await _is_kept(Plan.parse(path.read_text(), KINDS))


async def _is_kept(plan: Plan) -> None:
    """Kept; what was invalid (the machine was too slow for a fault to have its effect, say) has told nothing, and is
    done again."""
    for _ in range(ATTEMPTS_MAX):
        told: list[str] = []
        outcome = await carry_out(plan, told.append)
        if outcome.verdict != "invalid":
            break
    assert outcome.verdict == "kept", json.dumps(outcome.figures(), indent=1, default=str) + "\n".join(told)
