"""A short form of `make restarts`: one of each. How long it may take is for the long form, on a machine of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.cluster.trio import trio
from tests.restarts.restart import KINDS, Stage
from tests.restarts.written_redis import Clients

pytestmark = pytest.mark.nodes


async def test_a_daemon_and_an_agent_are_restarted_under_load() -> None:
    async with trio() as cluster:
        stage = Stage(cluster, Clients(idle=5, busy=5, anew=2, writes_per_second=500))
        try:
            await stage.open(memory_mib=4)
            for kind in KINDS:
                one = await stage.restart(kind)
                assert replace(one, mirrored_s=0.0).kept, one
        finally:
            await stage.close()
