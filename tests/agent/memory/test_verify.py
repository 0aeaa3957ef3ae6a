"""The verifier sees every byte that differs, and only those."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.errors import TraceeGone
from agent.kernel import procfs
from agent.memory.page_ranges import PAGE_BYTES, PAGE_SHIFT
from agent.memory.verify import Difference, verify
from tests.agent.mirrored import ANONYMOUS, FIXED, PLACE, PRIVATE, READ, SHARED, WRITE
from tests.agent.victim import Puppet, build, running

PAGES = 300


@contextmanager
def family(directory: Path) -> Iterator[tuple[Puppet, int]]:
    """A puppet and its forked child, both stopped: their memory is equal but for what the fork itself wrote."""
    with running([str(build("puppet.c"))], directory) as parent, ExitStack() as stack:
        parent.tell("m", PLACE, PAGES * PAGE_BYTES, READ | WRITE, PRIVATE | ANONYMOUS | FIXED, -1, 0)
        parent.tell("f", PLACE, 100 * PAGE_BYTES, 7)
        memfd = parent.tell("o", 8 * PAGE_BYTES)
        parent.tell("m", PLACE + (1 << 30), 8 * PAGE_BYTES, READ | WRITE, SHARED | FIXED, memfd, 0)
        child = parent.tell("c")
        stack.callback(os.kill, child, 9)
        until_it_waits(child)
        parent.stop()
        yield parent, child


def until_it_waits(pid: int) -> None:
    """A child that has just been forked writes to its memory until it waits for ever (proc_pid_stat(5): S)."""
    limit_s = time.monotonic() + 30.0
    while procfs.stat(pid).state != "S":
        assert time.monotonic() < limit_s


def poke(pid: int, address: int, data: bytes) -> None:
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        memory.write(data)


def test_a_process_equals_itself(tmp_path: Path) -> None:
    with family(tmp_path) as (parent, _):
        result = verify(parent.pid, parent.pid)
        assert result.equal
        assert result.bytes_compared > 100 * PAGE_BYTES


def test_every_byte_that_differs_is_found(tmp_path: Path) -> None:
    with family(tmp_path) as (parent, child):
        before = set(verify(parent.pid, child).differences)
        assert len(before) < 10, "the fork itself changes hardly anything"
        poke(child, PLACE + 50 * PAGE_BYTES + 4095, b"x")
        poke(parent.pid, PLACE + 51 * PAGE_BYTES, b"x")
        poke(child, PLACE + 200 * PAGE_BYTES + 8, b"x")
        first = PLACE >> PAGE_SHIFT
        found = set(verify(parent.pid, child).differences) - before
        assert found == {Difference(first + 50, 4095), Difference(first + 51, 0), Difference(first + 200, 8)}


def test_mappings_that_differ_are_named(tmp_path: Path) -> None:
    with family(tmp_path) as (parent, child):
        assert verify(parent.pid, child).mappings == ()
        parent.resume()
        parent.tell("p", PLACE, 10 * PAGE_BYTES, READ)
        parent.tell("u", PLACE + 250 * PAGE_BYTES, 50 * PAGE_BYTES)
        parent.stop()
        result = verify(parent.pid, child)
        assert not result.equal
        assert result.mappings == (
            f"only the original has {PLACE:#x}-{PLACE + 10 * PAGE_BYTES:#x} r--p",
            f"only the original has {PLACE + 10 * PAGE_BYTES:#x}-{PLACE + 250 * PAGE_BYTES:#x} rw-p",
            f"only the shadow has {PLACE:#x}-{PLACE + 300 * PAGE_BYTES:#x} rw-p",
        )


def test_what_only_the_shadow_has_by_intention_is_left_out(tmp_path: Path) -> None:
    with family(tmp_path) as (parent, child):
        parent.resume()
        parent.tell("u", PLACE, PAGES * PAGE_BYTES)
        parent.stop()
        assert verify(parent.pid, child, own=[(PLACE, PLACE + PAGES * PAGE_BYTES)]).mappings == ()


def test_a_process_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with running([str(build("puppet.c"))], tmp_path) as puppet:
        gone = puppet.pid
    with pytest.raises(TraceeGone):
        verify(gone, os.getpid())
