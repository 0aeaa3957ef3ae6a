"""A process that does not end and does nothing: stopped by a signal, or frozen with its cgroup."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import ClassVar

from tests.chaos.faults.fault import Fault
from tests.chaos.processes import Role

_FREEZERS = Path("/sys/fs/cgroup/freezer")
_LOOK_AGAIN_S = 0.01
_FROZEN_S = 2.0


class _Stopped(Fault):
    """SIGSTOP, and SIGCONT."""

    role: ClassVar[Role]

    async def begin(self) -> None:
        """See `Fault`."""
        self._pid = self.scene.pid(self.node, self.role)
        os.kill(self._pid, signal.SIGSTOP)

    async def effect(self) -> str:
        """See `Fault`."""
        stopped = _state(self._pid) in "Tt"
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
    """A daemon whose cgroup is frozen: no signal helps. Version 1 of cgroups, linux/Documentation/admin-guide."""

    kind = "daemon-frozen"

    async def begin(self) -> None:
        """See `Fault`."""
        self._pid = self.scene.pid(self.node, "daemon")
        self._cgroup = _FREEZERS / f"kgm-{os.getpid()}-{self.node}"
        self._cgroup.mkdir()
        (self._cgroup / "cgroup.procs").write_text(str(self._pid))
        (self._cgroup / "freezer.state").write_text("FROZEN")

    async def effect(self) -> str:
        """See `Fault`."""
        frozen = (self._cgroup / "freezer.state").read_text().strip() == "FROZEN"
        return f"process {self._pid}, the daemon of node {self.node}, is frozen" if frozen else ""

    async def heal(self) -> None:
        """See `Fault`."""
        (self._cgroup / "freezer.state").write_text("THAWED")
        for pid in (self._cgroup / "cgroup.procs").read_text().split():
            try:
                (_FREEZERS / "cgroup.procs").write_text(pid)
            except OSError:
                continue  # It has ended since.
        async with asyncio.timeout(_FROZEN_S):
            while (self._cgroup / "cgroup.procs").read_text():
                await asyncio.sleep(_LOOK_AGAIN_S)
        self._cgroup.rmdir()


def _state(pid: int) -> str:
    """The letter of proc(5); "X" for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
