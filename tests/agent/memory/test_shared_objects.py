"""What exists of a shared object is found without making more of it."""

from __future__ import annotations

import os
from pathlib import Path

from agent.context.layout import READ, WRITE, area_at
from agent.memory.address_space import AddressSpace
from agent.memory.page_ranges import PAGE_BYTES, PAGE_SHIFT, expand
from agent.memory.shared_objects import SharedObjects
from tests.agent.mirrored import FIXED, PLACE, SHARED
from tests.agent.victim import build, running


def test_the_extents_of_a_sparse_object_seen_through_a_part_of_it(tmp_path: Path) -> None:
    with running([str(build("puppet.c"))], tmp_path) as puppet:
        memfd = puppet.tell("o", 1 << 40)
        puppet.tell("m", PLACE, 1 << 36, READ | WRITE, SHARED | FIXED, memfd, 10 * PAGE_BYTES)
        for page in (3, 12, 13, 5000):
            puppet.tell("s", memfd, 1, page * PAGE_BYTES)
        space, objects = AddressSpace(puppet.pid), SharedObjects(puppet.pid)
        space.refresh()
        area = area_at(space.areas, PLACE)
        assert area is not None
        objects.follow([area])
        ((found, extents),) = objects.contents()
        assert found is area
        assert (expand(extents) - (PLACE >> PAGE_SHIFT)).tolist() == [2, 3, 4990]
        blocks = os.stat(f"/proc/{puppet.pid}/fd/{memfd}").st_blocks
        assert blocks * 512 == 4 * PAGE_BYTES
        objects.follow([])
        assert list(objects.contents()) == []
        objects.close()
        space.close()
