"""A short form of `make agent-kills`: at each moment once."""

from __future__ import annotations

import random

import pytest

from tests.agent_kills.kill import Stage
from tests.agent_kills.moment import MOMENTS
from tests.cluster.trio import trio
from tests.restarts.written_redis import Clients

pytestmark = pytest.mark.nodes


async def test_a_killed_agent_leaves_the_program_whole() -> None:
    dice = random.Random(1)
    async with trio() as cluster:
        stage = Stage(cluster, Clients(idle=5, busy=5, anew=5, writes_per_second=500))
        try:
            await stage.open(memory_mib=4)
            for moment in MOMENTS:
                one = await stage.kill(moment, dice)
                assert one.kept, one
        finally:
            await stage.close()
