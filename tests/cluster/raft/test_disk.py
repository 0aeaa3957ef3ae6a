"""The disk's work: in order, one batch at a time, and in a thread that nobody waits for."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from cluster.raft.disk import Batch, Disk
from cluster.raft.errors import StorageError
from cluster.raft.writer import Writer


def _refuse() -> None:
    raise StorageError("no")


def test_a_batch_is_all_that_was_ordered_and_ends_with_the_flush() -> None:
    disk = Disk()
    done: list[str] = []
    disk.flush = lambda: done.append("flush")
    disk.order(lambda: done.append("one"), lambda: done.append("told"))
    disk.order(lambda: done.append("two"))
    batch = disk.take()
    assert batch is not None
    disk.order(lambda: done.append("three"))
    assert disk.take() is None
    batch.perform()
    assert done == ["one", "two", "flush"]
    assert disk.durable == 0
    disk.settle(batch)
    assert (disk.durable, disk.ordered) == (2, 3)
    disk.sync()
    assert done == ["one", "two", "flush", "told", "three", "flush"]
    assert disk.durable == 3


def test_what_the_disk_refuses_is_raised_and_nothing_after_it_is_done() -> None:
    disk = Disk()
    done: list[str] = []
    disk.order(_refuse)
    disk.order(lambda: done.append("after"))
    batch = disk.take()
    assert batch is not None
    batch.perform()
    with pytest.raises(StorageError, match="no"):
        disk.settle(batch)
    assert done == []
    assert disk.durable == 0
    with pytest.raises(StorageError, match="no"):
        disk.sync()


async def test_the_event_loop_goes_on_while_the_disk_hangs() -> None:
    disk = Disk()
    may_end = threading.Event()
    settled: list[int] = []
    over = asyncio.Event()

    def settle(batch: Batch) -> None:
        disk.settle(batch)
        settled.append(batch.number)
        if disk.durable == disk.ordered:
            over.set()

    writer = Writer(disk, settle)
    try:
        disk.order(may_end.wait)  # type: ignore[arg-type]
        writer.go()
        disk.order(lambda: None)
        disk.order(lambda: None)
        writer.go()
        await asyncio.sleep(0.02)
        assert settled == []
        may_end.set()
        await asyncio.wait_for(over.wait(), 10)
        assert settled == [1, 3]
    finally:
        may_end.set()
        writer.close()


async def test_the_thread_is_as_urgent_as_the_loop() -> None:
    disk = Disk()
    found: list[tuple[int, int]] = []
    over = asyncio.Event()

    def note() -> None:
        found.append((os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)))

    os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    writer = Writer(disk, lambda batch: over.set())
    try:
        note()
        disk.order(note)
        writer.go()
        await asyncio.wait_for(over.wait(), 10)
        assert found[0] == found[1]
    finally:
        writer.close()
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
