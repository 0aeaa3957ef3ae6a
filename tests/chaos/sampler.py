"""Looks at every process of the cluster every few seconds: what it has open, keeps in memory and has under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Node
from tests.chaos.administrator import Administrator
from tests.chaos.evidence import Sample
from tests.chaos.processes import open_descriptors, processes, resident_kib, threads_of

EVERY_S = 10.0
_ANSWER_S = 3.0


class Sampler:
    """nodes: where to look. each: whom to ask for tasks, by node. program: how that of the program begins."""

    def __init__(self, nodes: Mapping[str, Node], each: Mapping[str, Administrator], program: bytes) -> None:
        self.samples: list[Sample] = []
        self._nodes = nodes
        self._each = each
        self._program = program

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            for name in self._nodes:
                tasks = await self._tasks(name)
                self.samples += self._look(name, tasks)
            await asyncio.sleep(EVERY_S)

    async def _tasks(self, name: str) -> int | None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._each[name].tasks()
        except (DemoError, TimeoutError):
            return None

    def _look(self, name: str, tasks: int | None) -> Iterator[Sample]:
        found = list(processes(self._nodes[name], self._program))
        at_ns = time.monotonic_ns()
        open_by_program = sum(len(open_descriptors(pid)) for role, pid in found if role == "program")
        for role, pid in found:
            yield Sample(
                at_ns=at_ns,
                node=name,
                role=role,
                pid=pid,
                descriptors=len(open_descriptors(pid)),
                # Its agent has a descriptor for each connection of the program.
                owed=open_by_program if role == "agent" else 0,
                resident_kib=resident_kib(pid),
                threads=threads_of(pid),
                tasks=tasks if role == "daemon" else None,
            )
