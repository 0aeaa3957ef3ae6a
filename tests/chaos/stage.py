"""Where harm is done: what a run needs of a cluster, whether it is made of namespaces here or of machines far away."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from tests.chaos.evidence import Agreed, Census, Loses, RegistryOperation, Report, Sample, Standing
from tests.chaos.observer import Roles, unnoted
from tests.chaos.plan import TARGETS, Target


class Harm(ABC):
    """One fault at one node. Methods may raise one of `TROUBLE`: then it had no effect.

    kind: its name in plans. targets: where it may strike. loses: what the failure model allows it to cost.
    """

    kind: ClassVar[str]
    targets: ClassVar[tuple[Target, ...]] = TARGETS
    loses: ClassVar[Loses] = "staleness"
    node: str

    @abstractmethod
    async def begin(self) -> None:
        """Do the harm; it is in force when this returns."""

    @abstractmethod
    async def effect(self) -> str:
        """How it shows, just before it is healed; "" if it does not."""

    async def heal(self) -> None:
        """Take it back. What heals by itself has nothing to do here."""
        return


class Stage(Protocol):
    """Open it, harm it, close it. reports, standings: of the staleness and of terms. samples: of all processes."""

    @property
    def reports(self) -> list[Report]:
        """See above."""

    @property
    def standings(self) -> list[Standing]:
        """See above."""

    @property
    def samples(self) -> list[Sample]:
        """See above."""

    async def open(self) -> None:
        """Until the program is served, mirrored and written to. Raises SceneError, DemoError."""

    async def roles(self) -> Roles:
        """Who is who now. Raises SceneError."""

    async def until_whole(self, note: Callable[[str], None] = unnoted) -> str:
        """Wait until it is whole; "" then, else what is missing. note: is told what is waited for, as that changes."""

    async def census(self) -> list[Census]:
        """How many processes and descriptors there are, by node and role."""

    def harm(self, kind: str, node: str, chance: random.Random) -> Harm:
        """A fault of this kind at a node, not begun yet."""

    async def witnesses(self) -> Sequence[Path]:
        """End the load and who else looks on; gives the files of what they have seen. Raises WitnessError."""

    async def registered(self) -> list[RegistryOperation]:
        """End what is done to the registry meanwhile; gives what was."""

    async def history(self) -> list[Agreed]:
        """As each node tells it. Raises SceneError."""

    async def close(self) -> None:
        """Leave nothing."""
