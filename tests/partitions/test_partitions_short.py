"""A short form of `make partitions`, by the same judge; and that this judge finds two that serve, if there are."""

from __future__ import annotations

import random

import pytest

from tests.cluster.trio import NAMES
from tests.partitions.faults import Kind, fault
from tests.partitions.partition import stage

pytestmark = pytest.mark.nodes
KINDS: tuple[Kind, ...] = ("primary_out", "everybody")


async def test_nobody_serves_beside_another_on_a_divided_network() -> None:
    dice = random.Random(1)
    async with stage("keepalived") as place:
        for kind in KINDS:
            primary, leader = await place.settled()
            one = await place.suffer(fault(kind, primary, leader, NAMES, dice))
            assert one.kept, one
        # Without a daemon and a watchdog that would stop it, the one that is cut off serves on.
        primary, leader = await place.settled()
        one = await place.suffer(fault("primary", primary, leader, NAMES, dice), guarded=False)
        assert one.overlaps, one
        assert one.moved, one
