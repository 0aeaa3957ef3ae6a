"""Three real nodes on a machine that has no time for them: nothing is fenced, nobody is elected, nothing moves."""

from __future__ import annotations

import pytest

from tests.cluster.trio import trio
from tests.false_alarms.load import Load
from tests.false_alarms.quiet import HEALTH, stays_quiet

SECONDS = 15.0
SECONDS_LONG = 60.0


async def _is_quiet(seconds: float, load: Load) -> None:
    async with trio(HEALTH) as cluster:
        one = await stays_quiet(cluster, load, seconds)
        assert one.kept, f"{one}; logs in {cluster.directory.logs}"


@pytest.mark.long
async def test_niced_load_raises_no_alarm() -> None:
    await _is_quiet(SECONDS, "niced")


@pytest.mark.long
async def test_load_raises_no_alarm_for_a_while() -> None:
    await _is_quiet(SECONDS_LONG, "niced")
    await _is_quiet(SECONDS_LONG, "ordinary")
