"""Where the trampoline finds its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import RestoreError
from agent.mirror.trampoline import ADDRESS_END, ADDRESS_MIN, PAGE_BYTES, ROOM_BYTES, Trampoline, find_place

_PAGES = ADDRESS_END // PAGE_BYTES
_spans = st.lists(
    st.tuples(st.integers(0, _PAGES - 1), st.integers(1, 1 << 20)).map(
        lambda pair: (pair[0] * PAGE_BYTES, min(pair[0] + pair[1], _PAGES) * PAGE_BYTES)
    ),
    max_size=30,
)


@given(_spans)
def test_it_is_free_and_keeps_its_distance(spans: list[tuple[int, int]]) -> None:
    address = find_place(spans)
    assert address % PAGE_BYTES == 0
    assert address >= ADDRESS_MIN
    assert address + ROOM_BYTES <= ADDRESS_END
    assert not Trampoline(address - ROOM_BYTES, 2 * ROOM_BYTES).overlaps(spans)


def test_an_address_space_without_a_gap_is_refused() -> None:
    with pytest.raises(RestoreError, match="3 GiB"):
        find_place([(start, start + (1 << 31)) for start in range(ADDRESS_MIN, ADDRESS_END, 1 << 31)])


def test_tables_come_after_the_code() -> None:
    trampoline = Trampoline(1 << 30, 1 << 20)
    assert trampoline.table == (1 << 30) + PAGE_BYTES
    assert trampoline.table + trampoline.room_bytes == trampoline.end
