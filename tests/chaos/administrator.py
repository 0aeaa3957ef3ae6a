"""Who asks and commands a cluster through its API, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kagemusha.client import Json
from kagemusha.demo.cluster.operator import Operator
from kagemusha.demo.story import PROGRAM_ID


class Administrator(Operator):
    """Asks from a machine that it has moved to (`arrive`), or from this one (`stay`). Methods may raise DemoError."""

    def __init__(
        self, endpoints: Sequence[str], token: str, authority: Path, logs: Path, program: str = PROGRAM_ID
    ) -> None:
        super().__init__(endpoints, token, authority, logs, program)
        self.program_id = program

    async def stay(self) -> None:
        """Ask from here; before anything is asked."""
        await self._call(self._client.__aenter__())

    async def health(self) -> Json:
        """What the first node that answers knows of the group."""
        return await self._call(self._client.get_health())

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
