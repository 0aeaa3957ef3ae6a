"""The numbers that a shadow's descriptors have, predicted."""

from __future__ import annotations

import pytest

from agent.errors import RestoreError
from agent.kernel.libc import NR
from agent.mirror.batch import Batch
from agent.mirror.fdtable import DescriptorTable


def test_the_lowest_free_number_is_the_next() -> None:
    table = DescriptorTable(1024)
    assert table.lowest() == 0
    for number in (0, 1, 3):
        table.take(number)
    assert table.lowest() == 2
    table.release(0)
    assert table.lowest() == 0


def test_spare_numbers_begin_at_the_floor_and_are_given_again() -> None:
    table = DescriptorTable(10)
    assert [table.spare(), table.spare()] == [10, 11]
    table.release(10)
    assert table.spare() == 10
    assert table.lowest() == 0


def test_a_number_can_not_be_taken_or_released_twice() -> None:
    table = DescriptorTable(10)
    table.take(3)
    with pytest.raises(RestoreError, match="descriptor 3"):
        table.take(3)
    table.release(3)
    with pytest.raises(RestoreError, match="descriptor 3"):
        table.release(3)


def test_what_is_opened_at_its_number_is_not_moved() -> None:
    table, batch = DescriptorTable(10), Batch()
    table.place(batch, batch.add(NR.EVENTFD2, 0, 0), 0, close_on_exec=True)
    table.place(batch, batch.add(NR.EVENTFD2, 0, 0), 5, close_on_exec=False)
    assert table.used == {0, 5}
    assert batch.names == [
        "eventfd2",
        "flags of descriptor 0",
        "eventfd2",
        "dup3 to descriptor 5",
        "load",
        "close of what became descriptor 5",
    ]


def test_the_floor_moves_with_all_that_stands_above_it() -> None:
    table, batch = DescriptorTable(10), Batch()
    first, second = table.spare(), table.spare()
    moved = table.move_floor(batch, 20)
    assert moved == {first: 20, second: 21}
    assert table.spares == table.used == {20, 21}
    assert table.spare() == 22
