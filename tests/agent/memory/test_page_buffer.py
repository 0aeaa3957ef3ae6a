"""Rows that grow without moving."""

from __future__ import annotations

import pytest

from agent.errors import CaptureError
from agent.memory.page_buffer import PageBuffer


def test_rows_stay_where_they_are_and_keep_what_they_hold() -> None:
    buffer = PageBuffer(pages_max=5000, pages=10)
    buffer.rows[3] = 7
    address = buffer.rows.ctypes.data
    buffer.need(11)
    assert buffer.touched == 20
    buffer.need(5000)
    assert buffer.touched_bytes == 5000 * 4096
    assert buffer.rows.ctypes.data == address
    assert (buffer.rows[3] == 7).all()


def test_more_than_was_reserved_is_refused() -> None:
    with pytest.raises(CaptureError, match="at once; a checkpoint may hold 0 MiB"):
        PageBuffer(pages_max=100).need(101)
