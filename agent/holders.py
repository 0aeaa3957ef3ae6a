"""Which mirrors hold what, for those who wait until one does. In the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from transport.checkpoint import Version

OTHERS_S: Final = 0.005
"""Who is asked for by name may be a moment later than the first; to ask it what it holds takes as long."""


class Holders:
    """held: instance and newest version of every connected mirror, as it is now."""

    def __init__(self, held: Callable[[], Iterable[tuple[str, Version | None]]]) -> None:
        self._held = held
        self._progress = asyncio.Condition()

    async def changed(self) -> None:
        """A mirror holds more than before."""
        async with self._progress:
            self._progress.notify_all()

    async def of(self, version: Version, *, patient: bool = False) -> tuple[str, ...]:
        """Wait until some mirror holds `version`; gives the instances that do. patient: and a moment for the others."""

        def holders() -> tuple[str, ...]:
            return tuple(sorted(instance for instance, newest in self._held() if newest == version))

        async with self._progress:
            await self._progress.wait_for(holders)
            if patient:
                with suppress(TimeoutError):
                    async with asyncio.timeout(OTHERS_S):
                        await self._progress.wait_for(lambda: len(holders()) >= len(tuple(self._held())))
            return holders()
