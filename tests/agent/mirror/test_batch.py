"""Batches of system calls, run by a real shadow."""

from __future__ import annotations

import os
import struct

import pytest

from agent.errors import RestoreError
from agent.kernel import procfs
from agent.kernel.libc import NR
from agent.mirror.batch import RUNNER_CODE, RUNNER_SYSCALL_OFFSET, Batch, Blob, run_together
from agent.mirror.shadow import Shadow
from tests.agent.plain_copy import NUMBER


def test_results_come_back_in_order(blank: Shadow) -> None:
    batch = blank.batch()
    batch.add(NR.GETPID)
    name = batch.add(NR.MEMFD_CREATE, b"thing\0", 0)
    assert batch.run() == [NUMBER, 0]
    assert name.result == 0
    assert "thing" in procfs.read_link(blank.pid, "fd/0")


def test_a_failure_names_the_row_and_stops_the_batch(blank: Shadow) -> None:
    batch = blank.batch()
    batch.add(NR.GETPID)
    batch.add(NR.CLOSE, 99, name="close of nothing")
    batch.add(NR.EVENTFD2, 0, 0)
    with pytest.raises(
        RestoreError, match=r"close of nothing in the shadow: Bad file descriptor \(EBADF\), row 2 of 3"
    ):
        batch.run()
    assert procfs.descriptors(blank.pid) == []


def test_a_row_that_may_fail_stops_nothing(blank: Shadow) -> None:
    batch = blank.batch()
    failed = batch.add(NR.CLOSE, 99, may_fail=True)
    batch.add(NR.EVENTFD2, 0, 0, expect=0)
    batch.run()
    assert failed.result == -9


def test_an_unexpected_result_is_an_error(blank: Shadow) -> None:
    batch = blank.batch()
    batch.add(NR.EVENTFD2, 0, 0, name="an eventfd", expect=7)
    with pytest.raises(RestoreError, match="an eventfd in the shadow gave 0, not 7"):
        batch.run()


def test_a_result_is_used_by_several_later_rows_and_twice_in_one(blank: Shadow) -> None:
    batch = blank.batch()
    batch.add(NR.EVENTFD2, 0, 0)
    opened = batch.add(NR.EVENTFD2, 0, 0)
    batch.add(NR.DUP3, opened, 10, 0)
    batch.add(NR.DUP3, opened, 11, 0)
    same = batch.add(NR.DUP2, opened, opened)
    batch.add(NR.CLOSE, opened)
    batch.run()
    assert same.result == 1
    assert procfs.descriptors(blank.pid) == [0, 10, 11]


def test_a_result_of_an_earlier_batch_is_a_number(blank: Shadow) -> None:
    first = blank.batch()
    first.add(NR.EVENTFD2, 0, 0)
    opened = first.add(NR.EVENTFD2, 0, 0)
    first.run()
    second = blank.batch()
    second.add(NR.CLOSE, opened)
    second.run()
    assert procfs.descriptors(blank.pid) == [0]


def test_what_a_call_wrote_into_memory_is_used_and_read_back(blank: Shadow) -> None:
    batch = blank.batch()
    ends = Blob(8, read_back=True)
    batch.add(NR.PIPE2, ends, 0)
    reading, writing = batch.load32(ends), batch.load32(ends.at(4))
    batch.add(NR.DUP3, reading, 20, 0)
    batch.add(NR.WRITE, writing, b"hello", 5, expect=5)
    received = Blob(16, read_back=True)
    batch.add(NR.READ, 20, received, 16, expect=5)
    batch.run()
    assert struct.unpack("<2i", ends.content) == (0, 1)
    assert (reading.result, writing.result) == (0, 1)
    assert received.content[:5] == b"hello"


def test_blobs_point_at_each_other_and_into_themselves(blank: Shadow) -> None:
    batch = blank.batch()
    ends = Blob(8)
    batch.add(NR.PIPE2, ends, 0)
    word = Blob(b"world ....hello ")
    vector = Blob(struct.pack("<4Q", 0, 6, 0, 5) + b"again")
    vector.point(0, word.at(10)).point(16, vector.at(32))
    batch.add(NR.WRITEV, 1, vector, 2, expect=11)
    received = Blob(16, read_back=True)
    batch.add(NR.READ, 0, received, 16, expect=11)
    batch.run()
    assert received.content[:11] == b"hello again"


def test_prepared_pieces_are_joined(blank: Shadow) -> None:
    piece, inner = Batch(), Batch()
    ends = Blob(8, read_back=True)
    vector = Blob(16)
    vector.point(0, Blob(b"inside"))
    vector.content = vector.content[:8] + struct.pack("<Q", 6)
    inner.add(NR.PIPE2, ends, 0)
    writing = inner.load32(ends.at(4))
    inner.add(NR.WRITEV, writing, vector, 1, expect=6)
    inner.add(NR.FCNTL, writing, 1, 0)
    piece.add(NR.EVENTFD2, 0, 0)
    piece.extend(inner)
    batch = blank.batch()
    batch.add(NR.MEMFD_CREATE, b"first\0", 0)
    batch.extend(piece)
    batch.add(NR.CLOSE, writing)
    received = Blob(8, read_back=True)
    batch.add(NR.READ, 2, received, 8, expect=6)
    batch.run()
    assert writing.result == 3
    assert struct.unpack("<2i", ends.content) == (2, 3)
    assert received.content[:6] == b"inside"
    assert procfs.descriptors(blank.pid) == [0, 1, 2]


def test_a_batch_runs_once(blank: Shadow) -> None:
    batch = blank.batch()
    batch.add(NR.GETPID)
    batch.run()
    with pytest.raises(RestoreError, match="no more rows"):
        batch.add(NR.GETPID)


def test_large_blobs_make_the_trampoline_grow(blank: Shadow) -> None:
    content = os.urandom(3 << 20)
    batch = blank.batch()
    made = batch.add(NR.MEMFD_CREATE, b"large\0", 0)
    batch.add(NR.WRITE, made, content, len(content), expect=len(content))
    batch.run()
    with open(f"/proc/{blank.pid}/fd/0", "rb") as file:
        assert file.read() == content


def test_rows_of_two_threads_run_at_the_same_time(blank: Shadow) -> None:
    blank.set_threads([NUMBER, 500])
    batches = {}
    for tid in blank.threads.values():
        batches[tid] = blank.batch()
        batches[tid].add(NR.GETTID)
    run_together(blank, batches)
    assert {number: batches[tid].results for number, tid in blank.threads.items()} == {NUMBER: [NUMBER], 500: [500]}


def test_arguments_are_any_64_bits(blank: Shadow) -> None:
    batch = blank.batch()
    batch.add(NR.LSEEK, (1 << 64) - 1, 0, 0, may_fail=True)
    batch.add(NR.MMAP, 0, 4096, 3, 0x22, -1, 0)
    assert batch.run()[0] == -9


def test_the_listing_is_what_it_says() -> None:
    assert RUNNER_CODE[RUNNER_SYSCALL_OFFSET : RUNNER_SYSCALL_OFFSET + 2] == b"\x0f\x05"
    assert len(RUNNER_CODE) == 95
    assert RUNNER_CODE[-1] == 0xCC
