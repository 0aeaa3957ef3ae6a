"""Who asks and commands a cluster through its API, whatever it is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kagemusha.client import Json
from kagemusha.client.access import Access
from kagemusha.client.nodes import Nodes
from kagemusha.demo.cluster.operator import Operator
from kagemusha.demo.errors import DemoError
from kagemusha.demo.story import PROGRAM_ID

_PATIENCE_S = 1.0
_TASKS = re.compile(r"^kagemusha_tasks\{[^}]*\} (\S+)$", re.MULTILINE)


class Administrator(Operator):
    """Asks from a machine that it has moved to (`arrive`), or from this one (`stay`). Methods may raise DemoError."""

    def __init__(
        self, endpoints: Sequence[str], token: str, authority: Path, logs: Path, program: str = PROGRAM_ID
    ) -> None:
        super().__init__(endpoints, token, authority, logs, program)
        self.program_id = program
        self._metrics = Nodes(Access(tuple(endpoints), token, str(authority)), _PATIENCE_S)
        self._reads_metrics = False

    async def stay(self) -> None:
        """Ask from here; before anything is asked."""
        await self._call(self._client.__aenter__())

    async def health(self) -> Json:
        """What the first node that answers knows of the group."""
        return await self._call(self._client.get_health())

    async def tasks(self) -> int:
        """How many the event loop of the first node's daemon has that answers."""
        text = await self._call(self._metrics_text())
        found = _TASKS.search(text)
        if found is None:
            raise DemoError("the metrics tell of no tasks")
        return int(float(found[1]))

    async def _metrics_text(self) -> str:
        if not self._reads_metrics:
            self._metrics.open()
            self._reads_metrics = True
        async with self._metrics.answer("GET", "/metrics", {}) as answer:
            return await answer.text()

    async def close(self) -> None:
        """See `Operator`."""
        await self._call(self._metrics.close())
        await super().close()

    async def programs(self) -> list[Json]:
        """All of them."""
        return await self._call(self._client.list_programs())

    async def pause(self, for_s: int) -> Json:
        """No failover of the program for so long; gives its entry."""
        return await self._call(self._client.pause_program(self.program_id, for_s))

    async def resume(self) -> Json:
        """Failover of the program again; gives its entry."""
        return await self._call(self._client.resume_program(self.program_id))

    async def delete(self) -> None:
        """End the program everywhere, and forget it."""
        await self._call(self._client.delete_program(self.program_id))
