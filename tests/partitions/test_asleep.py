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

        primary, leader = await place.settled()
        token = (await place.cluster.served())["programs"]["redis"]["token"]
        for by_s in (HOURS_S, -HOURS_S):
            await place.cluster.daemons[leader].ask(do="set wall clock", by_s=by_s)
            await asyncio.sleep(LEASES_S)
            redis = (await place.cluster.served())["programs"]["redis"]
            assert (redis["token"], redis["primary"], redis["fence"]) == (token, primary, None)
        # And a takeover is what it always is.
        os.kill(place.cluster.pid_of_redis(primary), signal.SIGKILL)
        await place.cluster.until(lambda view: view["programs"]["redis"]["token"] > token, "another one serves")
        redis = (await place.cluster.served())["programs"]["redis"]
        assert redis["token"] == token + 1
        assert redis["last_promotion"]["version"]["number"] > 0, redis
