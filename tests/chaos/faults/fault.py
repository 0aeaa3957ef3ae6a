"""What every fault has: a name, where it may strike, what it may cost, a beginning, an effect, and an end."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import ClassVar

from tests.chaos.evidence import Loses
from tests.chaos.plan import TARGETS, Target
from tests.chaos.scene import Scene


class Fault(ABC):
    """One fault at one node. Methods may raise NoProcess, DemoError, OSError: then it had no effect.

    kind: its name in plans. targets: where it may strike. loses: what the failure model allows it to cost. driver:
    the one that must carry the address; "": any.
    """

    kind: ClassVar[str]
    targets: ClassVar[tuple[Target, ...]] = TARGETS
    loses: ClassVar[Loses] = "staleness"
    driver: ClassVar[str] = ""

    def __init__(self, scene: Scene, node: str, chance: random.Random) -> None:
        self.scene = scene
        self.node = node
        self.chance = chance

    @abstractmethod
    async def begin(self) -> None:
        """Do the harm; it is in force when this returns."""

    @abstractmethod
    async def effect(self) -> str:
        """How it shows, just before it is healed; "" if it does not."""

    async def heal(self) -> None:
        """Take it back. What heals by itself has nothing to do here."""
        return

    @property
    def port(self) -> str:
        """The bridge's port of the node."""
        return self.scene.nodes[self.node].port
