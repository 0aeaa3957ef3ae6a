"""What changed in a program's mappings, and what smaps says of the new ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.context.layout import READ, WRITE, area_at, decode
from agent.errors import TraceeGone
from agent.memory.address_space import AddressSpace
from agent.memory.page_ranges import PAGE_BYTES
from tests.agent.mirrored import ANONYMOUS, FIXED, GROWS_DOWN, NO_RESERVE, PLACE, PRIVATE, SHARED
from tests.agent.victim import Puppet, build, running

HUGE_PAGES, DONT_DUMP = 14, 16


@pytest.fixture
def puppet(tmp_path: Path) -> Iterator[Puppet]:
    with running([str(build("puppet.c"))], tmp_path) as victim:
        yield victim


@pytest.fixture
def space(puppet: Puppet) -> Iterator[AddressSpace]:
    opened = AddressSpace(puppet.pid)
    opened.refresh()
    yield opened
    opened.close()


def map_here(puppet: Puppet, pages: int, flags: int) -> None:
    puppet.tell("m", PLACE, pages * PAGE_BYTES, READ | WRITE, flags | FIXED, -1, 0)


def test_only_what_changed_is_told(puppet: Puppet, space: AddressSpace) -> None:
    assert space.refresh() is None
    map_here(puppet, 4, PRIVATE | ANONYMOUS)
    changed = space.refresh()
    assert changed is not None
    gone, come = changed
    assert gone == []
    assert [(area.start, area.end) for area in come] == [(PLACE, PLACE + 4 * PAGE_BYTES)]
    puppet.tell("p", PLACE, PAGE_BYTES, READ)
    changed = space.refresh()
    assert changed is not None
    assert [area.end - area.start for area in changed[0]] == [4 * PAGE_BYTES]
    assert [area.protection for area in changed[1]] == [READ, READ | WRITE]
    assert decode(space.record()) == list(space.areas)


def test_flags_are_read_once_and_stay_with_memory_that_grows(puppet: Puppet, space: AddressSpace) -> None:
    map_here(puppet, 4, PRIVATE | ANONYMOUS | NO_RESERVE)
    puppet.tell("a", PLACE, 4 * PAGE_BYTES, HUGE_PAGES)
    puppet.tell("a", PLACE, 4 * PAGE_BYTES, DONT_DUMP)
    space.refresh()
    before = space.record()
    space.read_flags()
    area = area_at(space.areas, PLACE)
    assert area is not None
    assert area.flags == ("dd", "hg", "nr")
    assert space.record() != before
    puppet.tell("r", PLACE, 4 * PAGE_BYTES, 8 * PAGE_BYTES, 0)
    space.refresh()
    grown = area_at(space.areas, PLACE)
    assert grown is not None
    assert (grown.end - grown.start, grown.flags) == (8 * PAGE_BYTES, ("dd", "hg", "nr"))


def test_stacks_and_shared_objects(puppet: Puppet, space: AddressSpace) -> None:
    map_here(puppet, 4, PRIVATE | ANONYMOUS | GROWS_DOWN)
    memfd = puppet.tell("o", 3 * PAGE_BYTES)
    puppet.tell("m", PLACE + (1 << 30), 2 * PAGE_BYTES, READ, SHARED | FIXED, memfd, PAGE_BYTES)
    space.refresh()
    space.read_flags()
    stack, shared = area_at(space.areas, PLACE), area_at(space.areas, PLACE + (1 << 30))
    assert stack is not None
    assert shared is not None
    assert stack.grows_down
    assert (shared.kind, shared.size, shared.offset, shared.deleted) == ("object", 3 * PAGE_BYTES, PAGE_BYTES, True)
    assert "mw" in shared.flags
    assert any(area.kind == "stack" and area.grows_down for area in space.areas)


def test_a_process_that_has_ended(tmp_path: Path) -> None:
    with running([str(build("puppet.c"))], tmp_path) as victim:
        space = AddressSpace(victim.pid)
        space.refresh()
    with pytest.raises(TraceeGone):
        space.refresh()
    space.close()
