"""Whatever becomes of updates on their way, a copy is the original at the version that it reports."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.structures.update import Copy, Original, Update
from transport.delta import PagePartDecoder, PagePartEncoder
from transport.errors import CorruptUpdate, KagemushaError, StaleUpdate

BLOCKS = 6
SIZE = BLOCKS * 4096 - 100
ENCODER, DECODER = PagePartEncoder(), PagePartDecoder()


def original() -> Original:
    return Original("table", SIZE, ENCODER, token=3)


def copy() -> Copy:
    return Copy("table", SIZE, DECODER)


def write(one: Original, *changes: tuple[int, int]) -> Update | None:
    """The next version, in which the first word of some blocks has another value."""
    rows = one.rows.copy()
    for block, value in changes:
        rows[block, 0] = value
    blocks = sorted({block for block, _ in changes}) if one.version else range(BLOCKS)
    numbers = np.array(list(blocks), np.uint64)
    return one.advance(numbers, rows[numbers])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, BLOCKS - 1), st.integers(0, 3)), max_size=4), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=30),
)
def test_whatever_comes_the_copy_is_the_original_at_its_version(
    history: list[list[tuple[int, int]]], deliveries: list[tuple[int, bool]]
) -> None:
    """Lost, repeated, reordered, and damaged updates, and whole copies in between."""
    source, mirror = original(), copy()
    sent: list[Update] = []
    truth = {0: mirror.rows.copy()}
    for changes in history:
        update = write(source, *changes)
        sent += [one for one in (update, source.whole()) if one is not None]
        truth[source.version] = source.rows.copy()
    for number, is_damaged in deliveries:
        update = sent[number % len(sent)]
        if is_damaged:
            data = bytearray(update.data)
            data[number % len(data)] ^= 1
            update = replace(update, data=bytes(data))
        before = mirror.version
        try:
            blocks = mirror.apply(update)
            assert mirror.version == update.version or not len(blocks)
        except (StaleUpdate, CorruptUpdate):
            assert mirror.version == before
        assert (mirror.rows == truth[mirror.version]).all()
    mirror.apply(source.whole())
    assert (mirror.rows == source.rows).all()


def test_every_field_is_protected() -> None:
    source = original()
    first = write(source)
    update = write(source, (2, 7), (4, 9))
    assert first is not None
    assert update is not None
    others: dict[str, Any] = {
        "structure": "other",
        "token": 2,
        "base_version": 2,
        "version": 5,
        "data": update.data + b"x",
    }
    for field in fields(Update):
        mirror = copy()
        mirror.apply(first)
        value = others.get(field.name, b"\x01" * 8)
        with pytest.raises(KagemushaError):
            mirror.apply(replace(update, **{field.name: value}))
        assert mirror.version == 1
        assert mirror.apply(update).tolist() == [2, 4]


def test_what_was_not_changed_does_not_travel() -> None:
    source = original()
    write(source)
    assert write(source, (1, 0)) is None
    update = write(source, (1, 5), (2, 0))
    assert update is not None
    mirror = copy()
    mirror.apply(replace(source.whole()))
    assert len(update.data) < 300


def test_a_new_primary_goes_on_with_mirrors_that_hold_the_same() -> None:
    source, mirror = original(), copy()
    first = write(source, (0, 1))
    assert first is not None
    mirror.apply(first)
    source.token = 4
    assert not len(mirror.apply(source.whole()))
    assert mirror.token == 4
    with pytest.raises(StaleUpdate, match="has token 3, and 4 was seen"):
        mirror.apply(first)


def test_a_promoted_copy_goes_on_for_mirrors_that_hold_the_same() -> None:
    source, promoted, other = original(), copy(), copy()
    for update in (write(source), write(source, (1, 5))):
        assert update is not None
        promoted.apply(update)
        other.apply(update)
    late = write(source, (2, 6))
    assert late is not None
    successor = Original.continued(promoted, ENCODER, 4)
    assert not len(other.apply(successor.whole()))
    update = write(successor, (3, 7))
    assert update is not None
    assert other.apply(update).tolist() == [3]
    assert (other.rows == successor.rows).all()
    # What the former primary still had to say, with a version that nobody has seen from it.
    with pytest.raises(StaleUpdate):
        other.apply(late)


def test_an_agent_that_is_started_again_begins_above_what_mirrors_hold() -> None:
    source, mirror = original(), copy()
    for update in (write(source), write(source, (1, 5))):
        assert update is not None
        mirror.apply(update)
    again = Original("table", SIZE, ENCODER, token=3, after=mirror.version)
    update = write(again, (0, 9))
    assert update is not None
    assert len(mirror.apply(update)) == BLOCKS
    assert (mirror.version, mirror.state) == (3, again.state)
    assert (mirror.rows == again.rows).all()


@pytest.mark.parametrize("cut", [1, 3, 5, 40])
def test_a_forged_sum_does_not_help_data_that_is_cut(cut: int) -> None:
    """The parts are checked on their own, too."""
    source, mirror = original(), copy()
    first = write(source, (0, 1))
    assert first is not None
    short = replace(first, data=first.data[:-cut])
    total = _sum_of(short)
    with pytest.raises(CorruptUpdate):
        mirror.apply(replace(short, sum=total))
    assert mirror.version == 0


def _sum_of(update: Update) -> bytes:
    from agent.structures import update as module

    return module._sum(update.structure, update.version, update.base, update.state, update.data)
