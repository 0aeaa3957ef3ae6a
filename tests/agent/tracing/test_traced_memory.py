"""A few bytes of another process, read and written whatever their protection."""

from __future__ import annotations

import ctypes
import os

import pytest

from agent.errors import KernelError
from agent.tracing.traced_memory import TracedMemory


def test_bytes_are_read_and_written() -> None:
    place = ctypes.create_string_buffer(b"before")
    memory = TracedMemory(os.getpid())
    try:
        assert memory.read(ctypes.addressof(place), 6) == b"before"
        memory.write(ctypes.addressof(place), b"after\0")
        assert place.value == b"after"
        memory.reopen()
        assert memory.read(ctypes.addressof(place), 5) == b"after"
    finally:
        memory.close()


def test_where_nothing_is_mapped_is_said() -> None:
    memory = TracedMemory(os.getpid())
    try:
        with pytest.raises(KernelError, match="at 0x1000"):
            memory.read(0x1000, 8)
        with pytest.raises(KernelError, match="at 0x1000"):
            memory.write(0x1000, b"x")
    finally:
        memory.close()
