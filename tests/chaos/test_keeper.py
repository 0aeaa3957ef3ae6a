"""An init system starts what has ended once, whatever happens to the node's power meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.chaos import keeper as keeping
from tests.chaos.daemon import ReleasedDaemon
from tests.chaos.keeper import Keeper


class _Daemon:
    """Counts how many of it run."""

    def __init__(self) -> None:
        self.node = SimpleNamespace(name="a", data=Path("/nowhere"), directory=SimpleNamespace(path=Path("/nowhere")))
        self.runs = 0
        self._end = asyncio.Event()

    def end(self) -> None:
        self.runs -= 1
        self._end.set()

    async def start(self) -> None:
        self.runs += 1
        self._end.clear()

    async def boot(self, mount: Callable[[], object]) -> None:
        await self.start()

    async def ended(self) -> None:
        await self._end.wait()


@pytest.mark.parametrize("powered", [True, False], ids=["it ends by itself", "the power goes and is back at once"])
async def test_what_has_ended_is_started_once(monkeypatch: pytest.MonkeyPatch, powered: bool) -> None:
    daemon = _Daemon()
    monkeypatch.setattr(keeping, "Disk", lambda node: SimpleNamespace(make=lambda: None, mount=lambda: None))
    monkeypatch.setattr(keeping, "RESTART_S", 0.05)
    keeper = Keeper(cast(ReleasedDaemon, daemon), None)
    await keeper.start()
    assert daemon.runs == 1
    daemon.end()
    await asyncio.sleep(0)
    if not powered:
        keeper.leave()
        await keeper.boot()
    # Nothing tells that a second one is not started.
    await asyncio.sleep(0.3)
    assert daemon.runs == 1
    assert keeper.starts == 2
    for task in keeper._tasks:
        task.cancel()
