"""Processes that do not end and do nothing, or hardly anything: stopped by a signal, frozen, without a processor."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import ClassVar

from tests.chaos.cgroup import Cgroup
from tests.chaos.faults.fault import Fault
from tests.chaos.processes import Role, state_of

_QUOTA_US = 2_000
"""Of each 100 ms."""
_WANTED_S = 20.0
_LOOK_AGAIN_S = 0.05
_REAL_TIME_US = 50_000
"""Of each second, for threads with real-time priority; without it they could not be here."""


class _Stopped(Fault):
    """SIGSTOP, and SIGCONT."""

    role: ClassVar[Role]

    async def begin(self) -> None:
        """See `Fault`."""
        self._pid = self.scene.pid(self.node, self.role)
        os.kill(self._pid, signal.SIGSTOP)

    async def effect(self) -> str:
        """See `Fault`."""
        stopped = state_of(self._pid) in "Tt"
        return f"process {self._pid}, the {self.role} of node {self.node}, stands still" if stopped else ""

    async def heal(self) -> None:
        """See `Fault`."""
        os.kill(self._pid, signal.SIGCONT)


class DaemonStopped(_Stopped):
    """A daemon that hangs. Its lease ends, and the watchdog stops what it serves."""

    kind = "daemon-stopped"
    role = "daemon"


class AgentStopped(_Stopped):
    """An agent that hangs: no checkpoints, no answers."""

    kind = "agent-stopped"
    targets = ("primary", "mirror")
    role = "agent"


class WatchdogStopped(_Stopped):
    """A watchdog that hangs; its daemon must notice."""

    kind = "watchdog-stopped"
    targets = ("primary", "mirror")
    role = "watchdog"


class DaemonFrozen(Fault):
    """A daemon whose cgroup is frozen: no signal helps."""

    kind = "daemon-frozen"

    async def begin(self) -> None:
        """See `Fault`."""
        self._pid = self.scene.pid(self.node, "daemon")
        self._cgroup = Cgroup("freezer", f"frozen-{self.node}")
        self._cgroup.take([self._pid], {})
        self._cgroup.write("freezer.state", "FROZEN")

    async def effect(self) -> str:
        """See `Fault`."""
        frozen = self._cgroup.read("freezer.state") == "FROZEN"
        return f"process {self._pid}, the daemon of node {self.node}, is frozen" if frozen else ""

    async def heal(self) -> None:
        """See `Fault`."""
        self._cgroup.write("freezer.state", "THAWED")
        await asyncio.to_thread(self._cgroup.release)


class Starved(Fault):
    """The daemon, its watchdog and the agent of a node share a fiftieth of one processor."""

    kind = "starved"
    roles: ClassVar[tuple[Role, ...]] = ("daemon", "watchdog", "agent")

    async def begin(self) -> None:
        """See `Fault`."""
        self._cgroup = Cgroup("cpu", f"{self.kind}-{self.node}")
        pids = (pid for role in self.roles for pid in self.scene.pids(self.node, role))
        self._cgroup.take_all(pids, {"cpu.cfs_quota_us": str(_QUOTA_US), "cpu.rt_runtime_us": str(_REAL_TIME_US)})

    async def effect(self) -> str:
        """See `Fault`."""
        end_s = time.monotonic() + _WANTED_S
        # Who does little notices nothing at first.
        while not (held := self._held()) and time.monotonic() < end_s:
            await asyncio.sleep(_LOOK_AGAIN_S)
        return f"node {self.node} was without a processor {held} times" if held else ""

    def _held(self) -> int:
        """How often (admin-guide/cgroup-v1, scheduler/sched-bwc)."""
        return int(dict(line.split() for line in self._cgroup.read("cpu.stat").splitlines())["nr_throttled"])

    async def heal(self) -> None:
        """See `Fault`."""
        self._cgroup.write("cpu.cfs_quota_us", "-1")
        await asyncio.to_thread(self._cgroup.release)


class NodeStarved(Starved):
    """The program shares it with them, as when something else takes all processors of a node."""

    kind = "node-starved"
    roles = ("daemon", "watchdog", "agent", "spawner", "program")
