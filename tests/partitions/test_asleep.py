"""Time that jumps, on three real nodes: a node that sleeps and wakes, and the wall clock of the one that leads."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.partitions.partition import stage

pytestmark = pytest.mark.nodes
HOURS_S = 5 * 3600.0
LEASES_S = 1.0
"""Two leases: what is counted wrongly is over by then."""


async def test_a_node_that_sleeps_serves_beside_nobody_and_a_wall_clock_that_is_set_moves_nothing() -> None:
    async with stage("address") as place:
        primary, _ = await place.settled()
        assert await place.suspend(primary) == []

        for by_s in (HOURS_S, -HOURS_S):
            primary, leader = await place.settled()
            before = (await place.cluster.served())["programs"]["redis"]
            await place.cluster.daemons[leader].ask(do="set wall clock", by_s=by_s)
            await asyncio.sleep(LEASES_S)
            after = (await place.cluster.served())["programs"]["redis"]
            assert (after["token"], after["primary"], after["fence"]) == (before["token"], primary, None)
            # And a takeover is what it always is.
            os.kill(place.cluster.pid_of_redis(primary), signal.SIGKILL)
            view = await place.cluster.until(
                lambda view, token=before["token"]: view["programs"]["redis"]["token"] > token,  # type: ignore[misc]
                "another one serves",
            )
            promotion = view["programs"]["redis"]["last_promotion"]
            assert promotion["version"]["number"] > 0, promotion
        assert (await place.cluster.served())["programs"]["redis"]["token"] == before["token"] + 1
