"""Events to any number of readers, in bounded memory."""

from __future__ import annotations

import asyncio

import pytest

from cluster.admin.events import REMEMBERED_MAX, WAITING_MAX, EventLog, ReaderTooSlow
from tests.cluster.admin.fake_cluster import event


async def test_what_came_after_and_then_what_comes() -> None:
    log = EventLog()
    for index in (1, 2, 5):
        log.note(event(index))
    reader = log.follow(1)
    assert [(await anext(reader)).index for _ in range(2)] == [2, 5]
    following = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    log.note(event(6))
    log.note(event(6))
    assert (await following).index == 6


async def test_a_new_reader_gets_only_what_comes() -> None:
    log = EventLog()
    log.note(event(1))
    following = asyncio.ensure_future(anext(log.follow(None)))
    await asyncio.sleep(0)
    log.note(event(2))
    assert (await following).index == 2


async def test_memory_is_bounded() -> None:
    log = EventLog()
    for index in range(REMEMBERED_MAX + 10):
        log.note(event(index))
    assert (await anext(log.follow(0))).index == 10


async def test_a_reader_that_is_too_slow_is_sent_away() -> None:
    log = EventLog()
    reader = log.follow(None)
    following = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    for index in range(WAITING_MAX + 2):
        log.note(event(index))
    seen = [(await following).index]
    seen += [(await anext(reader)).index for _ in range(WAITING_MAX - 1)]
    assert seen == list(range(WAITING_MAX))
    with pytest.raises(ReaderTooSlow):
        await anext(reader)
