"""What a daemon does for as long as it lives, its heartbeats above all. Where that fails, by a mistake or for want of
memory or descriptors, the node would be there and say nothing: it ends as a whole, and is started again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from transport.errors import KagemushaError

Failure = TypeVar("Failure", bound=KagemushaError)


async def first_failure(
    node: str, storage: Coroutine[Any, Any, Failure], lasting: Collection[asyncio.Task[None]]
) -> KagemushaError:
    """Wait until the storage of a node has failed, or one of its lasting tasks has; gives why. Those that are cancelled
    or come to their end have ended in order."""
    failing = asyncio.create_task(storage)
    try:
        waiting: set[asyncio.Task[Any]] = {failing, *lasting}
        while not failing.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {failing}:
                if not task.cancelled() and (error := task.exception()) is not None:
                    what = f"node {node} can't go on: {error!r}"
                    raise KagemushaError(what, hint="it is started again; the log says where")
        return failing.result()
    except KagemushaError as failure:
        return failure
    finally:
        failing.cancel()
