"""Disks that are slow, hang, or fail, under the journal of a daemon."""

from __future__ import annotations

import asyncio
import os
from subprocess import TimeoutExpired

from tests.chaos.cgroup import Cgroup
from tests.chaos.faults.fault import Fault

_WRITES_PER_S = 5
_SLOW_S = 0.1
_LOOK_S = 0.3


class DiskSlow(Fault):
    """A node's disk takes five writes a second, of whoever runs there."""

    kind = "disk-slow"

    async def begin(self) -> None:
        """See `Fault`."""
        self._disk = self.scene.keepers[self.node].disk
        number = os.stat(self._disk.device).st_rdev
        self._cgroup = Cgroup("blkio", f"slow-{self.node}")
        limit = f"{os.major(number)}:{os.minor(number)} {_WRITES_PER_S}"
        pids = self.scene.nodes[self.node].network.processes()
        self._cgroup.take_all(pids, {"blkio.throttle.write_iops_device": limit})

    async def effect(self) -> str:
        """See `Fault`."""
        took_s = [await asyncio.to_thread(self._disk.write_s, self._cgroup.list_of_processes) for _ in range(3)]
        return f"a write of node {self.node} took {max(took_s) * 1e3:.0f} ms" if max(took_s) > _SLOW_S else ""

    async def heal(self) -> None:
        """See `Fault`."""
        await asyncio.to_thread(self._cgroup.release)


class DiskHangs(Fault):
    """Who writes to a node's disk waits for as long as the fault lasts; nothing fails."""

    kind = "disk-hangs"

    async def begin(self) -> None:
        """See `Fault`."""
        self._disk = self.scene.keepers[self.node].disk
        self._holder = await asyncio.to_thread(self._disk.hang)

    async def effect(self) -> str:
        """See `Fault`."""
        probe = asyncio.ensure_future(asyncio.to_thread(self._disk.write_s))
        done, _ = await asyncio.wait([probe], timeout=_LOOK_S)
        return "" if done or self._holder.poll() is not None else f"a write of node {self.node} does not end"

    async def heal(self) -> None:
        """See `Fault`."""
        if self._holder.stdin is not None:
            self._holder.stdin.close()
        try:
            await asyncio.to_thread(self._holder.wait, 10)
        except TimeoutExpired as error:
            raise OSError(f"the disk of node {self.node} still hangs") from error


class DiskLost(Fault):
    """Reads and writes of a node's disk fail (EIO); then the node is switched off, and boots with a good one, on which
    is what had reached the bad one."""

    kind = "disk-lost"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        disk = self.scene.keepers[self.node].disk
        await asyncio.to_thread(disk.lose)
        self._is_lost = await asyncio.to_thread(disk.is_lost)

    async def effect(self) -> str:
        """See `Fault`."""
        return f"a write to the disk of node {self.node} failed" if self._is_lost else ""

    async def heal(self) -> None:
        """See `Fault`."""
        keeper, node = self.scene.keepers[self.node], self.scene.nodes[self.node]
        keeper.leave()
        await asyncio.to_thread(node.cut)
        await asyncio.to_thread(node.kill)
        await keeper.boot()
