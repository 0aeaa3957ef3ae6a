"""The native structures of one warm program: attached to, found, captured or written. The event loop's side.

All that touches the program is done in the tracer thread by `TracingResident`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from agent.errors import TraceeGone
from agent.mirror.takeover import trace
from agent.primary.pauses import Pauses
from agent.program import Definition
from agent.structures.locating import Located, locate
from agent.structures.report import Declaration, Refusal, Resync
from agent.structures.table import StructureTable
from agent.structures.update import Applied, Update
from agent.tracing.prompt import Prompt
from agent.tracing.tracer import Tracer
from agent.warm.tracing_resident import TracingResident
from transport.structure_messages import Declare, Held

log = structlog.get_logger()

AGAIN_S: Final = (0.5, 1.0, 2.0, 4.0)
"""A program that has not loaded a library or made a file yet is looked at again after so long."""
_LIMIT_BYTES_MIN: Final = 1 << 20


def native_tables(definition: Definition) -> tuple[StructureTable, ...]:
    """Those that need no library in the program."""
    return tuple(table for table in definition.structures if table.python is None)


class Native:
    """Of one process. Made by `attach`."""

    def __init__(self, tracer: Tracer, resident: TracingResident, tables: tuple[StructureTable, ...], pid: int) -> None:
        self._tracer = tracer
        self._resident = resident
        self._tables = tables
        self._pid = pid
        self.located: list[Located] = []

    @classmethod
    async def attach(
        cls,
        definition: Definition,
        tracer: Tracer,
        pid: int,
        captured: Callable[[list[Update], int], None],
        refused: Callable[[Refusal], None],
        ended: Callable[[int], None],
    ) -> Native:
        """Trace a process; what is told is told in the event loop. Raises KernelError, TraceeGone."""
        loop = asyncio.get_running_loop()
        mirror = definition.mirror

        def attach() -> TracingResident:
            resident = TracingResident(
                trace(pid),
                Prompt(loop),
                mirror.deadline_ms / 1000,
                mirror.interval_ms,
                lambda updates, at_ns: _soon(loop, captured, updates, at_ns),
                lambda refusal: _soon(loop, refused, refusal),
                lambda status: _soon(loop, ended, status),
            )
            tracer.house(resident)
            return resident

        return cls(tracer, await tracer.call(attach), native_tables(definition), pid)

    async def find(self, refused: Callable[[Refusal], None]) -> None:
        """Find all structures, which may take seconds; those that are not there yet are waited for. Raises
        TraceeGone."""
        missing = self._tables
        for wait_s in (*AGAIN_S, 0.0):
            found, refusals = await asyncio.to_thread(locate, missing, self._pid)
            self.located += found
            late = {one.title for one in missing if one.library is not None or one.file is not None}
            again = {refusal.structure for refusal in refusals if wait_s and refusal.structure in late}
            for refusal in refusals:
                if refusal.structure not in again:
                    refused(refusal)
            missing = tuple(table for table in missing if table.title in again)
            if not missing:
                return
            await asyncio.sleep(wait_s)

    async def supply(self, token: int, *, anew: bool = False) -> list[tuple[Declare, Held | None]]:
        """Capture what was found, from now on; gives each with what a mirror's program, promoted, goes on from.

        anew: another agent was here before, with the same token.

        Raises CheckpointAbandoned, TraceeGone.
        """
        # Numbers must not come again: no structure had so many versions since the epoch as there were milliseconds.
        first = time.time_ns() // 1_000_000 if anew else 0
        after = {one.name: first for one in self.located}
        declared = await self._tracer.call(lambda: self._resident.supply(self.located, token, after))
        return [(_declare(one), held) for one, held in declared]

    async def receive(self) -> list[Declaration]:
        """Write what comes, from now on. Raises TraceeGone."""
        return await self._tracer.call(lambda: self._resident.receive(self.located))

    async def compare(self, declare: Declare) -> Refusal | None:
        """Whether the primary's structure has the layout that it has here; None, too, where it is not known here."""
        theirs = Declaration(declare.structure, declare.type.decode(errors="replace"), declare.lines, 0)
        return await self._tracer.call(lambda: self._resident.compare(theirs))

    async def apply(self, update: Update) -> Applied | Resync | Refusal | None:
        """Write an update. None: nothing is to be said; or the program has ended, which is said elsewhere."""
        try:
            return await self._tracer.call(lambda: self._resident.apply(update))
        except TraceeGone:
            return None

    async def holds(self) -> dict[str, tuple[int, bytes]]:
        """What the program holds completely."""
        return await self._tracer.call(lambda: self._resident.holds)

    async def content(self, name: str) -> bytes | None:
        """The bytes of a structure as they were captured or written last; None: nothing was yet."""
        return await self._tracer.call(lambda: self._resident.content(name))

    def ask_whole(self, name: str, told: Callable[[list[Update]], None]) -> None:
        """Have a whole copy made, soon; `told` in the event loop."""
        loop = asyncio.get_running_loop()
        self._tracer.post(lambda: _soon(loop, told, self._resident.whole(name)))

    async def hold(self) -> None:
        """See `TracingResident.hold`."""
        await self._tracer.call(self._resident.hold)

    async def resume(self) -> None:
        """See `TracingResident.resume`."""
        await self._tracer.call(self._resident.resume)

    async def leave(self) -> None:
        """Let go of the program, which runs on."""

        def leave() -> None:
            self._tracer.house(None)
            self._resident.leave()

        await self._tracer.call(leave)

    @property
    def pauses(self) -> Pauses:
        """How long the program stood still."""
        return self._resident.pauses

    @property
    def abandoned(self) -> int:
        """How many stops came to nothing."""
        return self._resident.abandoned


def _soon(loop: asyncio.AbstractEventLoop, job: Callable[..., object], *arguments: Any) -> None:
    """Run a job in the event loop, called in the tracer thread."""
    loop.call_soon_threadsafe(job, *arguments)


def _declare(one: Declaration) -> Declare:
    limit_bytes = max(2 * one.size, _LIMIT_BYTES_MIN)
    return Declare(one.structure, True, one.digest.encode(), f"{one.size} bytes", limit_bytes, one.lines)
