"""Time that jumps: the wall clock of a node is set, or a node sleeps and wakes."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from kagemusha.demo.nodes import Node
from tests.chaos.cgroup import Cgroup
from tests.chaos.clocks.node_clocks import NodeClocks
from tests.chaos.faults.fault import Fault
from tests.chaos.processes import NoProcess

_HOURS_S = 5 * 3600.0
_SLEPT_S = 600.0


class _WallClock(Fault):
    """CLOCK_REALTIME of a node is set while its daemon runs, and set right again. Leases do not go by it."""

    loses = "nothing"
    by_s: ClassVar[float]

    async def begin(self) -> None:
        """See `Fault`."""
        self._clocks = _clocks_of(self)
        self._clocks.set_wall(self.by_s)

    async def effect(self) -> str:
        """See `Fault`."""
        read = [pid for role in ("daemon", "agent") for pid in self.scene.pids(self.node, role) if _reads(self, pid)]
        return f"processes {read} of node {self.node} were {self.by_s / 3600:+g} hours off" if read else ""

    async def heal(self) -> None:
        """See `Fault`."""
        self._clocks.set_wall(0.0)


class WallClockForward(_WallClock):
    """It is five hours fast."""

    kind = "wall-clock-forward"
    by_s = _HOURS_S


class WallClockBack(_WallClock):
    """It is five hours slow."""

    kind = "wall-clock-back"
    by_s = -_HOURS_S


class Asleep(Fault):
    """A node sleeps, and wakes ten minutes later by its own clock: nothing of it ran meanwhile, nor was it reached."""

    kind = "asleep"

    async def begin(self) -> None:
        """See `Fault`."""
        self._node: Node = self.scene.nodes[self.node]
        self._clocks = _clocks_of(self)
        self._cgroup = Cgroup("freezer", f"asleep-{self.node}")
        self._pids = self._node.network.processes()
        self._cgroup.take_all(self._pids, {})
        await asyncio.to_thread(self._node.cut)
        self._cgroup.write("freezer.state", "FROZEN")

    async def effect(self) -> str:
        """See `Fault`."""
        slept = self._cgroup.read("freezer.state") == "FROZEN"
        return f"all {len(self._pids)} processes of node {self.node} stood still for {_SLEPT_S:g} s" if slept else ""

    async def heal(self) -> None:
        """See `Fault`."""
        self._clocks.sleep(_SLEPT_S)
        self._cgroup.write("freezer.state", "THAWED")
        await asyncio.to_thread(self._node.heal)
        await asyncio.to_thread(self._cgroup.release)


def _clocks_of(fault: Fault) -> NodeClocks:
    clocks = fault.scene.keepers[fault.node].daemon.clocks
    if not clocks.is_used_by(fault.scene.pid(fault.node, "daemon")):
        raise NoProcess(f"the daemon of node {fault.node} goes by other clocks")
    return clocks


def _reads(fault: Fault, pid: int) -> bool:
    try:
        return fault.scene.keepers[fault.node].daemon.clocks.is_used_by(pid)
    except OSError:
        return False
