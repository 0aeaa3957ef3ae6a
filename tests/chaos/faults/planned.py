"""What operators do on an ordinary day, under load. It costs nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Final

from kagemusha.demo.errors import DemoError
from tests.chaos.daemon import make_release, release_of
from tests.chaos.faults.fault import Fault
from tests.chaos.processes import Role

ROLES_OF_RELEASE: Final[tuple[Role, ...]] = ("daemon", "watchdog", "agent")
_ENDED_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.02


class SwitchedOver(Fault):
    """A planned switchover to a mirror."""

    kind = "switched-over"
    targets = ("mirror",)
    loses = "nothing"

    async def begin(self) -> None:
        """See `Fault`."""
        await self.scene.operator.switch_over(self.node)

    async def effect(self) -> str:
        """See `Fault`."""
        primary = (await self.scene.observer.ask(self.scene.operator.program()))["primary"]
        return f"node {primary} is the primary" if primary == self.node else ""


class DaemonRestarted(Fault):
    """A daemon is ended in order, and started again by the init system."""

    kind = "daemon-restarted"
    loses = "nothing"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        self._starts = self.scene.keepers[self.node].starts
        os.kill(self.scene.pid(self.node, "daemon"), signal.SIGTERM)

    async def effect(self) -> str:
        """See `Fault`."""
        starts = await self.scene.keepers[self.node].started(self._starts)
        return f"the daemon of node {self.node} was started for the {starts}. time" if starts > self._starts else ""


class AllRestarted(Fault):
    """All daemons are ended in order at once, as by an impatient hand, and started again by their init systems."""

    kind = "all-daemons-restarted"
    targets = ("primary",)
    loses = "staleness"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        keepers = self.scene.keepers
        self._starts = {name: keeper.starts for name, keeper in keepers.items()}
        for pid in [self.scene.pid(name, "daemon") for name in keepers]:
            os.kill(pid, signal.SIGTERM)

    async def effect(self) -> str:
        """See `Fault`."""
        again = [await self.scene.keepers[name].started(before) > before for name, before in self._starts.items()]
        return "all daemons were started again" if all(again) else ""


class Upgraded(Fault):
    """A rolling upgrade: another release on one node after the other, those without the primary first, as the playbook
    does it. Daemon, watchdog and the agents of mirrors are of it then; the primary is handed over before its node's
    turn."""

    kind = "upgraded"
    targets = ("primary",)
    loses = "nothing"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        self._release = await asyncio.to_thread(make_release, self.scene.directory)
        others = [name for name in self.scene.nodes if name != self.node]
        for name in (*others, self.node):
            if name == self.node:
                await self.scene.operator.switch_over(others[0])
                await self._whole()
            await self._go_over(name)

    async def _go_over(self, name: str) -> None:
        keeper = self.scene.keepers[name]
        keeper.daemon.release = self._release
        before = keeper.starts
        os.kill(self.scene.pid(name, "daemon"), signal.SIGTERM)
        await keeper.started(before)
        await self._whole()
        for role in ROLES_OF_RELEASE:
            for pid in self.scene.pids(name, role):
                if release_of(pid) != str(self._release):
                    os.kill(pid, signal.SIGTERM)
                    await _ended(pid)
        await self._whole()

    async def _whole(self) -> None:
        if missing := await self.scene.until_whole():
            raise DemoError(f"in the middle of an upgrade: {missing}")

    async def effect(self) -> str:
        """See `Fault`."""
        pids = [pid for name in self.scene.nodes for role in ROLES_OF_RELEASE for pid in self.scene.pids(name, role)]
        new = [pid for pid in pids if release_of(pid) == str(self._release)]
        return f"all {len(new)} processes are of {self._release.name}" if new and len(new) == len(pids) else ""


async def _ended(pid: int) -> None:
    end_s = time.monotonic() + _ENDED_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end_s:
        await asyncio.sleep(_LOOK_AGAIN_S)
