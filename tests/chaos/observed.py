"""What every stage knows of its cluster, by asking it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.chaos.administrator import Administrator
from tests.chaos.evidence import Agreed, Report, Sample, Standing
from tests.chaos.observer import Observer, Roles, SceneError, unnoted


class Observed:
    """That part of a `Stage`. operators: who ask; the one without a name asks whatever node answers."""

    def __init__(self) -> None:
        self._operators: dict[str, Administrator] = {}
        self._observer: Observer | None = None
        self._reporter: asyncio.Task[None] | None = None

    @property
    def operator(self) -> Administrator:
        """Who asks whatever node answers."""
        return self._operators[""]

    @property
    def observer(self) -> Observer:
        """Who asks what the cluster says of itself. Raises SceneError."""
        if self._observer is None:
            raise SceneError("nobody can be asked yet")
        return self._observer

    @property
    def reports(self) -> list[Report]:
        """See `Stage`."""
        return [] if self._observer is None else self._observer.reports

    @property
    def standings(self) -> list[Standing]:
        """See `Stage`."""
        return [] if self._observer is None else self._observer.standings

    @property
    def samples(self) -> list[Sample]:
        """See `Stage`: none, where nobody can look."""
        return []

    async def roles(self) -> Roles:
        """See `Stage`."""
        return await self.observer.roles()

    async def until_whole(self, note: Callable[[str], None] = unnoted) -> str:
        """See `Stage`."""
        return await self.observer.until_whole(note=note)

    async def history(self) -> list[Agreed]:
        """See `Stage`."""
        reporter = self._reporter
        if reporter is not None and reporter.done() and not reporter.cancelled():
            raise SceneError(f"who asks for the staleness and for terms has ended: {reporter.exception()!r}")
        return await self.observer.history()
