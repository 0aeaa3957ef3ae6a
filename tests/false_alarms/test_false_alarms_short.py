"""An alarm is seen as one. That load raises none is for a machine of its own: `make false-alarms`."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.cluster.trio import Trio, trio
from tests.false_alarms.quiet import stays_quiet

pytestmark = pytest.mark.nodes

SECONDS = 4.0


async def _hang(cluster: Trio, node: str) -> None:
    """Its daemon does nothing for longer than a lease."""
    process = cluster.daemons[node].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.0)
    process.send_signal(signal.SIGCONT)


async def test_a_daemon_that_is_late_is_an_alarm() -> None:
    async with trio() as cluster:
        one = await stays_quiet(cluster, "niced", SECONDS, lambda: _hang(cluster, "a"))
        assert one.fences or one.promotions, one
        assert not one.kept, one
