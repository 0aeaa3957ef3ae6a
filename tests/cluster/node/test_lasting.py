"""A node whose heartbeats fail has failed: one that is there and says nothing would be waited for."""

from __future__ import annotations

import asyncio

import pytest

from cluster.node.lasting import first_failure
from cluster.raft.errors import StorageError


async def forever() -> None:
    """What lasts."""
    await asyncio.Event().wait()


async def never() -> StorageError:
    """A storage that does not fail."""
    await forever()
    raise AssertionError


async def failed() -> StorageError:
    """One that has failed."""
    return StorageError("the disk is full")


async def without_memory() -> None:
    """What can't go on."""
    raise OSError(12, "Cannot allocate memory")


async def test_a_storage_that_fails_is_told_as_it_is() -> None:
    lasting = [asyncio.create_task(forever())]
    assert (await first_failure("a", failed(), lasting)).what == "the disk is full"
    lasting[0].cancel()


async def test_heartbeats_that_fail_are_a_failure() -> None:
    lasting = [asyncio.create_task(without_memory()), asyncio.create_task(forever())]
    failure = await first_failure("a", never(), lasting)
    assert "node a can't go on" in failure.what
    assert "Cannot allocate memory" in failure.what
    lasting[1].cancel()


async def test_what_is_cancelled_or_done_has_ended_in_order() -> None:
    lasting = [asyncio.create_task(forever()), asyncio.create_task(asyncio.sleep(0))]
    waiting = asyncio.create_task(first_failure("a", never(), lasting))
    await asyncio.sleep(0)
    lasting[0].cancel()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.shield(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
