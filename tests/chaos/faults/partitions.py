"""Networks that are divided: a node cut off from all, from the other nodes alone, in one direction, from one node, and
again and again."""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from kagemusha.demo.errors import DemoError
from tests.chaos.faults.fault import Fault
from tests.chaos.faults.filter import Filter, ports

_FLAP_S = 0.25


class _Divided(Fault):
    """Some packets are dropped on the bridge."""

    @abstractmethod
    def rules(self) -> list[str]:
        """Which ones."""

    @property
    def others(self) -> list[str]:
        """The ports of the other nodes."""
        return [node.port for name, node in self.scene.nodes.items() if name != self.node]

    def out(self, to: list[str]) -> str:
        """Nothing that the node sends arrives there."""
        return f'iifname "{self.port}" oifname {ports(to)} counter drop'

    def into(self, source: list[str]) -> str:
        """Nothing from there arrives at the node."""
        return f'oifname "{self.port}" iifname {ports(source)} counter drop'

    async def begin(self) -> None:
        """See `Fault`."""
        self._filter = Filter(self.scene.bridge, f"{self.kind}_{self.node}".replace("-", "_"), self.rules())
        await self._filter.add()

    async def effect(self) -> str:
        """See `Fault`."""
        taken = await self._filter.taken()
        return f"{taken} packets of node {self.node} were lost" if taken else ""

    async def heal(self) -> None:
        """See `Fault`."""
        await self._filter.delete()


class CutOff(_Divided):
    """A node is cut off from everybody, clients too."""

    kind = "cut-off"

    def rules(self) -> list[str]:
        """See `_Divided`."""
        return [f'iifname "{self.port}" counter drop', f'oifname "{self.port}" counter drop']


class Isolated(_Divided):
    """A node is cut off from the other nodes, and clients still reach it: it must stop all the same."""

    kind = "isolated"

    def rules(self) -> list[str]:
        """See `_Divided`."""
        return [self.out(self.others), self.into(self.others)]


class Mute(_Divided):
    """The other nodes do not hear a node, which hears them."""

    kind = "mute"

    def rules(self) -> list[str]:
        """See `_Divided`."""
        return [self.out(self.others)]


class Deaf(_Divided):
    """A node does not hear the others, which hear it."""

    kind = "deaf"

    def rules(self) -> list[str]:
        """See `_Divided`."""
        return [self.into(self.others)]


class Bridged(_Divided):
    """Two nodes do not reach each other, and the third reaches both."""

    kind = "bridged"

    def rules(self) -> list[str]:
        """See `_Divided`."""
        other = self.chance.choice(self.others)
        return [self.out([other]), self.into([other])]


class Flapping(Isolated):
    """Isolated and back, four times a second."""

    kind = "flapping"

    async def begin(self) -> None:
        """See `Fault`."""
        await super().begin()
        self._times = self._taken = 0
        self._task = asyncio.ensure_future(self._flap())

    async def _flap(self) -> None:
        while True:
            await asyncio.sleep(_FLAP_S)
            self._taken += await self._filter.taken()
            await self._filter.delete()
            await asyncio.sleep(_FLAP_S)
            await self._filter.add()
            self._times += 1

    async def effect(self) -> str:
        """See `Fault`."""
        taken = self._taken + await self._filter.taken()
        return f"{taken} packets of node {self.node} were lost, it came back {self._times} times" if taken else ""

    async def heal(self) -> None:
        """See `Fault`."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await super().heal()
        except DemoError:
            pass  # It was just back.


class Lossy(_Divided):
    """A third of what a node sends and gets is lost."""

    kind = "lossy"

    def rules(self) -> list[str]:
        """See `_Divided`."""
        chance = "numgen random mod 100 < 30 counter drop"
        return [f'iifname "{self.port}" {chance}', f'oifname "{self.port}" {chance}']
