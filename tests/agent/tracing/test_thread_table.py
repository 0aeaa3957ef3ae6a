"""The table of threads: who moves, and who is what."""

from __future__ import annotations

import os
import threading

from agent.tracing.thread_table import ThreadTable
from agent.tracing.traced_thread import State, TracedThread


def test_who_moves_follows_from_the_states() -> None:
    table = ThreadTable(os.getpid())
    one, two = table.add(20, 2), table.add(10, 1)
    assert table.moving == {10, 20}
    table.put(one, State.STOPPED)
    table.put(two, State.GROUP_STOPPED)
    assert not table.moving
    assert table.all_in(State.STOPPED, State.GROUP_STOPPED)
    assert table.any_in(State.STOPPED)
    assert not table.any_in(State.HELD)
    table.put(two, State.LISTENING)
    assert table.moving == {10}
    table.remove(10)
    assert not table.moving
    assert (len(table), 10 in table, table.get(20)) == (1, False, one)


def test_numbers_ascend_and_leave_out_who_leaves() -> None:
    table = ThreadTable(os.getpid())
    leaving = table.add(30, 3)
    table.add(20, 2)
    assert list(table.numbers().items()) == [(20, 2), (30, 3)]
    table.put(leaving, State.LEAVING)
    assert table.numbers() == {20: 2}
    table.add(40, 4)
    assert table.numbers() == {20: 2, 40: 4}
    table.keep_only([TracedThread(50, State.STOPPED, 5)])
    assert (table.numbers(), table.moving) == ({50: 5}, {50})


def test_a_number_is_looked_up_when_it_is_asked_for() -> None:
    table = ThreadTable(os.getpid())
    own = threading.get_native_id()
    table.add(own)
    assert table.numbers() == {own: own}
