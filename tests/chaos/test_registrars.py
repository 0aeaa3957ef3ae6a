"""What is seen of a program's entry, whatever the clock of the node that answers says."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from tests.chaos.registrars import DEGREE_MAX, PROGRAM, STEP_S, degree_of

_HOURS_S = 5 * 3600


def entry(paused_until_s: float | None) -> dict[str, object]:
    """As the API tells of it."""
    until = None if paused_until_s is None else datetime.fromtimestamp(paused_until_s, UTC).isoformat()
    return {"program": PROGRAM, "paused_until": until}


@pytest.mark.parametrize("wrong_s", [-_HOURS_S, 0, _HOURS_S])
def test_a_pause_is_known_by_its_length(wrong_s: int) -> None:
    for degree in range(1, DEGREE_MAX + 1):
        assert degree_of(entry(time.time() + wrong_s + degree * STEP_S)) == degree


def test_what_is_not_paused_or_not_there_is_told_apart() -> None:
    assert degree_of(entry(None)) == 0
    assert degree_of(None) is None
