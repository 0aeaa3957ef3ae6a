"""Layouts: what is read from the kernel, what travels, and what turns one into another."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.context.layout import (
    EXECUTE,
    READ,
    WRITE,
    Advise,
    Area,
    Map,
    Protect,
    Unmap,
    area_at,
    decode,
    difference,
    encode,
    parse_line,
)
from agent.errors import RestoreError
from agent.memory.page_ranges import PAGE_BYTES

LINES = [
    (
        b"7f0000000000-7f0000004000 r-xp 00002000 fd:01 77                         /usr/lib/libc.so.6",
        Area(0x7F0000000000, 0x7F0000004000, READ | EXECUTE, False, "file", "/usr/lib/libc.so.6", 0x2000, "fd:01", 77),
    ),
    (
        b"7f0000000000-7f0000004000 rw-s 00001000 00:01 8 /memfd:x y (deleted)",
        Area(0x7F0000000000, 0x7F0000004000, READ | WRITE, True, "object", "/memfd:x y", 0x1000, "00:01", 8, 0, True),
    ),
    (
        b"7f0000000000-7f0000004000 rw-s 00000000 00:01 9 /dev/zero (deleted)",
        Area(0x7F0000000000, 0x7F0000004000, READ | WRITE, True, "object", "/dev/zero", 0, "00:01", 9, 0, True),
    ),
    (
        b"7f0000000000-7f0000004000 rw-p 00000000 fd:01 9 /usr/lib/old.so (deleted)",
        Area(0x7F0000000000, 0x7F0000004000, READ | WRITE, False, "file", "/usr/lib/old.so", 0, "fd:01", 9, 0, True),
    ),
    (b"1000-2000 rw-p 00000000 00:00 0 [heap]", Area(0x1000, 0x2000, READ | WRITE, False, "heap", "[heap]")),
    (b"1000-2000 rw-p 00000000 00:00 0 [stack]", Area(0x1000, 0x2000, READ | WRITE, False, "stack", "[stack]")),
    (b"1000-2000 ---p 00000000 00:00 0 ", Area(0x1000, 0x2000, 0, False, "anonymous")),
    (b"1000-2000 r--p 00000000 00:00 0 [anon:a b]", Area(0x1000, 0x2000, READ, False, "anonymous", "[anon:a b]")),
    (b"1000-2000 r--p 00000000 00:00 0 [vvar_vclock]", Area(0x1000, 0x2000, READ, False, "special", "[vvar_vclock]")),
]


@pytest.mark.parametrize(("line", "area"), LINES)
def test_lines_of_maps(line: bytes, area: Area) -> None:
    assert parse_line(line) == area


def test_the_lines_of_this_process_travel() -> None:
    areas = [parse_line(line, 5, ("gd", "nr")) for line in Path(f"/proc/{os.getpid()}/maps").read_bytes().splitlines()]
    assert decode(encode(areas)) == areas
    assert encode(decode(encode(areas))) == encode(areas)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xc1",
        msgpack.packb(5),
        msgpack.packb([[1]]),
        msgpack.packb([["a"] * 12]),
        encode([Area(0x1000, 0x1000, 1, False, "anonymous")]),
        encode([Area(0x1001, 0x3000, 1, False, "anonymous")]),
        encode([Area(0x1000, 0x3000, 1, False, "anonymous"), Area(0x2000, 0x4000, 1, False, "anonymous")]),
        encode([Area(0x1000, 0x3000, 1, False, "nonsense")]),  # type: ignore[arg-type]
        encode([Area(0x1000, 0x3000, 1, False, "anonymous", flags=("zz",))]),
        encode([Area(0x1000, 0x3000, -1, False, "anonymous")]),
    ],
)
def test_what_is_no_layout_is_refused(record: bytes) -> None:
    with pytest.raises(RestoreError, match="layout record"):
        decode(record)


def anonymous(first: int, last: int, protection: int = READ | WRITE) -> Area:
    return Area(first * PAGE_BYTES, last * PAGE_BYTES, protection, False, "anonymous")


def test_a_change_in_the_middle_leaves_both_ends_alone() -> None:
    old = [anonymous(0, 10)]
    new = [anonymous(0, 3), anonymous(3, 5, READ), anonymous(6, 12)]
    assert difference(old, new) == [
        Unmap(5 * PAGE_BYTES, 6 * PAGE_BYTES),
        Map(anonymous(10, 12)),
        Protect(3 * PAGE_BYTES, 5 * PAGE_BYTES, READ),
    ]


def test_labels_and_flags_do_not_make_other_memory() -> None:
    old = [anonymous(0, 10)]
    new = [replace(anonymous(0, 4), kind="heap", path="[heap]"), replace(anonymous(4, 10), flags=("hg",))]
    assert difference(old, new) == [Advise(4 * PAGE_BYTES, 10 * PAGE_BYTES, (), ("hg",))]


def test_the_kernels_own_areas_are_left_alone() -> None:
    vdso = Area(0x9000, 0xA000, READ, False, "special", "[vdso]")
    assert difference([vdso], []) == []
    assert difference([], [vdso]) == []


def test_area_at() -> None:
    areas = [anonymous(1, 2), anonymous(4, 6)]
    found = [area_at(areas, page * PAGE_BYTES) for page in range(7)]
    assert found == [None, areas[0], None, None, areas[1], areas[1], None]


@dataclass(frozen=True)
class Cell:
    """What one page of the dumb twin is: born says which mapping made it."""

    identity: tuple[object, ...]
    protection: int
    flags: tuple[str, ...]
    born: str


@st.composite
def layouts(draw: st.DrawFn) -> list[Area]:
    areas: list[Area] = []
    at = draw(st.integers(0, 3))
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.integers(0, 2))
        length = draw(st.integers(1, 5))
        start, end = at * PAGE_BYTES, (at + length) * PAGE_BYTES
        protection = draw(st.sampled_from([0, READ, READ | WRITE]))
        flags = draw(st.sampled_from([(), ("hg",), ("dd", "nr")]))
        if draw(st.booleans()):
            inode, shift = draw(st.integers(1, 2)), draw(st.integers(0, 1))
            offset = (at + shift) * PAGE_BYTES
            area = Area(start, end, protection, draw(st.booleans()), "file", f"/f{inode}", offset, "fd:01", inode)
            areas.append(replace(area, flags=flags))
        else:
            areas.append(Area(start, end, protection, False, "anonymous", flags=flags))
        at += length
    return areas


def cells(areas: list[Area], born: str) -> dict[int, Cell]:
    return {
        page: Cell(area.identity(), area.protection, area.flags, born)
        for area in areas
        for page in range(area.start // PAGE_BYTES, area.end // PAGE_BYTES)
    }


@settings(max_examples=400, deadline=None)
@given(layouts(), layouts())
def test_the_difference_does_page_by_page_what_it_must_and_no_more(old: list[Area], new: list[Area]) -> None:
    here, wanted = cells(old, "old"), cells(new, "new")
    order = {Unmap: 0, Map: 1, Protect: 2, Advise: 3}
    changes = difference(old, new)
    assert [order[type(change)] for change in changes] == sorted(order[type(change)] for change in changes)
    touched: set[tuple[int, str]] = set()
    for change in changes:
        span = (change.area.start, change.area.end) if isinstance(change, Map) else (change.start, change.end)
        for page in range(span[0] // PAGE_BYTES, span[1] // PAGE_BYTES):
            assert (page, type(change).__name__) not in touched
            touched.add((page, type(change).__name__))
            if isinstance(change, Unmap):
                assert page in here
                del here[page]
            elif isinstance(change, Map):
                here[page] = Cell(change.area.identity(), change.area.protection, change.area.flags, "new")
            elif isinstance(change, Protect):
                assert here[page].born == "old"
                assert here[page].protection != change.protection
                here[page] = replace(here[page], protection=change.protection)
            else:
                assert here[page].born == "old"
                assert here[page].flags == change.before
                here[page] = replace(here[page], flags=change.after)
    assert {page: replace(cell, born="") for page, cell in here.items()} == {
        page: replace(cell, born="") for page, cell in wanted.items()
    }
    before = cells(old, "old")
    for page, cell in here.items():
        stays = page in before and before[page].identity == cell.identity
        assert (cell.born == "old") == stays, "memory that stays must not be touched, other memory must be new"


@given(layouts())
def test_equal_layouts_differ_in_nothing(layout: list[Area]) -> None:
    assert difference(layout, layout) == []
    assert decode(encode(layout)) == layout
