"""One whole run: a real cluster, a program that is killed and one that is moved, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.chaos.plan import Plan
from tests.chaos.run import carry_out
from tests.chaos.selftest import STEPS

pytestmark = pytest.mark.nodes


async def test_a_short_run_keeps_everything() -> None:
    told: list[str] = []
    outcome = await carry_out(Plan(0, STEPS), told.append)
    assert outcome.verdict == "kept", (outcome.figures(), told)
    assert len(told) == len(STEPS)
    figures = outcome.figures()
    assert figures["writes_lost"] == 0
    assert figures["writes_acknowledged"] > 0
    assert not outcome.kept_in
