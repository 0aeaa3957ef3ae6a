"""What every fault of a scene has beyond being one."""

from __future__ import annotations

import random
from typing import ClassVar

from tests.chaos.scene import Scene
from tests.chaos.stage import Harm


class Fault(Harm):
    """One fault at one node of a scene. driver: the one that must carry the address; "": any. programs: those that it
    is possible with; none: with all. ends_daemons: whether a daemon or a watchdog may end of it, and with it all that
    it had leaked."""

    driver: ClassVar[str] = ""
    programs: ClassVar[tuple[str, ...]] = ()
    ends_daemons: ClassVar[bool] = False

    def __init__(self, scene: Scene, node: str, chance: random.Random) -> None:
        self.scene = scene
        self.node = node
        self.chance = chance

    @property
    def port(self) -> str:
        """The bridge's port of the node."""
        return self.scene.nodes[self.node].port
