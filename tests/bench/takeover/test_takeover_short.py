"""A short form of `make bench-takeover`: one of each kind that no other test of whole clusters has, with keepalived.

How long it took is for the long form, on a machine of its own.
"""

from __future__ import annotations

import os

import pytest

from kagemusha.demo.display import Display
from tests.bench.takeover.cluster import ClusterBench
from tests.bench.takeover.kinds import PROMISES, Kind
from tests.bench.takeover.row import broken_promises
from tests.bench.takeover.stage import Load, machines

pytestmark = pytest.mark.nodes

KINDS: tuple[Kind, ...] = ("node_killed", "leader_node_killed", "daemon_stopped")


async def test_nobody_serves_beside_another_and_only_what_may_be_lost_is() -> None:
    load = Load(memory_mib=4, per_second=500, idle=5, busy=5, anew=2)
    with open(os.devnull, "w") as nowhere:
        async with machines() as there:
            bench = ClusterBench(Display(nowhere), there, load, "keepalived", health=False)
            try:
                await bench.open()
                for kind in KINDS:
                    one = await bench.run(kind)
                    assert one.taken_over, kind
                    assert broken_promises([one], PROMISES[kind]) == [], (kind, one)
            finally:
                there.close()
                await bench.close()
