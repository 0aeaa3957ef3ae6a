"""Something is asked of a cluster again and again, while its daemons live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from kagemusha.demo.cluster.daemon import Daemon
from kagemusha.demo.errors import DemoError

_LOOK_AGAIN_S: Final = 0.02


async def until(
    is_so: Callable[[], Awaitable[bool]], deadline_s: float, what: str, *, daemons: Iterable[Daemon], logs: Path
) -> None:
    """Ask until it is so. DemoError `what`, with the last trouble, if that takes too long; or that a daemon ended."""
    end_s, trouble = time.monotonic() + deadline_s, ""
    daemons = tuple(daemons)
    while True:
        for daemon in daemons:
            daemon.check()
        try:
            if await is_so():
                return
            trouble = ""
        except DemoError as error:
            trouble = f": {error.what}"
        if time.monotonic() > end_s:
            raise DemoError(f"{what} within {deadline_s:g} s{trouble}", hint=f"see {logs}")
        await asyncio.sleep(_LOOK_AGAIN_S)
