"""Looks for the structures that are read between checkpoints. In the event loop.

Debug information of a large program takes seconds to read, so it is done in a thread that nobody waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from agent.errors import KernelError, TraceeGone
from agent.primary.samples import Samples
from agent.structures.sampled import locate_sampled
from agent.structures.table import StructureTable
from agent.tracing.tracer import Tracer

log = structlog.get_logger()

AGAIN_S: Final = (0.5, 1.0, 2.0, 4.0)
"""A program that has not loaded a library or mapped a file yet is looked at again after so long; then as the last."""


class SampleSearch:
    """One for each instance; nothing happens where there are no such structures."""

    def __init__(self, tracer: Tracer, tables: Sequence[StructureTable]) -> None:
        self._tracer = tracer
        self._tables = {table.title: table for table in tables}
        self._missing: set[str] = set()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def begin(self, samples: Samples | None) -> None:
        """This instance serves: look for all of them in its program."""
        former, self._task = self._task, None
        if former is not None:
            former.cancel()
        if samples is not None:
            self._missing = set(self._tables)
            samples.lost = lambda name: self._loop.call_soon_threadsafe(self._is_lost, name)
            self._task = asyncio.create_task(self._run(samples))

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _is_lost(self, name: str) -> None:
        self._missing.add(name)
        self._lost.set()

    async def _run(self, samples: Samples) -> None:
        try:
            while True:
                self._lost.clear()
                waits = iter(AGAIN_S)
                while await self._look(samples):
                    await asyncio.sleep(next(waits, AGAIN_S[-1]))
                await self._lost.wait()
                await asyncio.sleep(AGAIN_S[0])
        except (TraceeGone, KernelError) as error:
            log.info("structures are looked for no more", reason=error.what)

    async def _look(self, samples: Samples) -> bool:
        """Whether some are missing that may come later."""
        tables = [self._tables[name] for name in sorted(self._missing)]
        found, refused = await asyncio.to_thread(locate_sampled, tables, samples.tracee.pid)
        self._missing -= {table.title for table in tables if table.library is None and table.file is None}
        self._missing -= {one.name for one in found}
        await self._tracer.call(partial(samples.add, found, refused))
        return bool(self._missing)
