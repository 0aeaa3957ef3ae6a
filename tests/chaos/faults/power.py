"""The power of one node goes, or of all; it comes back when it is healed."""

from __future__ import annotations

import asyncio

from tests.chaos.faults.fault import Fault


class ProcessesKilled(Fault):
    """Every process of a node is gone at once; its kernel goes on, and answers for the addresses that it has."""

    kind = "processes-killed"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        self.scene.keepers[self.node].leave()
        self._killed = await asyncio.to_thread(self.scene.nodes[self.node].kill)

    async def effect(self) -> str:
        """See `Fault`."""
        left = self.scene.nodes[self.node].network.processes()
        return f"{self._killed} processes of node {self.node} are gone" if self._killed and not left else ""

    async def heal(self) -> None:
        """See `Fault`."""
        await self.scene.keepers[self.node].boot()


class NodeKilled(ProcessesKilled):
    """The whole node: nothing of it answers any more."""

    kind = "node-killed"

    async def begin(self) -> None:
        """See `Fault`."""
        await asyncio.to_thread(self.scene.nodes[self.node].cut)
        await super().begin()


class PowerLost(NodeKilled):
    """The same, and what was written without a sync is gone from the disk."""

    kind = "power-lost"

    async def begin(self) -> None:
        """See `Fault`."""
        disk = self.scene.keepers[self.node].disk
        disk.cut()
        self._is_cut = disk.is_cut()
        await super().begin()

    async def effect(self) -> str:
        """See `Fault`."""
        gone = await super().effect()
        return f"{gone}, and nothing reached its disk" if gone and self._is_cut else ""


class AllKilled(Fault):
    """All nodes at once. Contexts live in memory alone: what the program knew is gone, what was agreed is not."""

    kind = "all-nodes-killed"
    targets = ("primary",)
    loses = "everything"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        for keeper in self.scene.keepers.values():
            keeper.leave()
        for node in self.scene.nodes.values():
            node.cut()
        kills = (asyncio.to_thread(node.kill) for node in self.scene.nodes.values())
        self._killed = sum(await asyncio.gather(*kills))

    async def effect(self) -> str:
        """See `Fault`."""
        return f"{self._killed} processes of all nodes are gone" if self._killed else ""

    async def heal(self) -> None:
        """See `Fault`."""
        await asyncio.gather(*(keeper.boot() for keeper in self.scene.keepers.values()))
