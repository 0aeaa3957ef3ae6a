"""Where one connected mirror stands, structure by structure: which updates it can build on, and what it needs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.structures.update import Update
from transport.checkpoint import NOTHING, Version
from transport.structure_messages import Held


@dataclass(slots=True)
class Subscriber:
    """A connected mirror. reached: its newest mark of this primary; since_ns: when it was last in step.

    at: where each structure will be when all that was sent has arrived; a structure that it does not want, or needs
    whole, is not in it (`needs`). wanted: what it has said last that it holds.
    """

    subscriber: int
    instance: str
    incarnation: int
    since_ns: int
    reached: Version = NOTHING
    is_jammed: bool = False
    at: dict[str, Held] = field(default_factory=dict)
    needs: set[str] = field(default_factory=set)
    wanted: dict[str, Held] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether who waits in commit() waits for it."""
        return self.reached != NOTHING and not self.is_jammed

    def lacks(self, structure: str) -> bool:
        """Whether it needs a whole copy, and there is room for one."""
        return structure in self.needs and not self.is_jammed

    def forget(self, structure: str) -> None:
        """A structure is gone, or another one under the same name."""
        self.at.pop(structure, None)
        self.needs.discard(structure)

    def jam(self) -> None:
        """What was sent last was dropped: it needs everything whole."""
        self.is_jammed = True
        self.needs |= self.at.keys()
        self.at.clear()

    def takes(self, update: Update) -> bool:
        """Whether an update is for it, which it has then; one that it misses makes it need a whole copy."""
        if self.is_jammed:
            return False
        name, after = update.structure, (update.version, update.state)
        differs = self.at.get(name, after) != after
        if self.at.get(name) == (update.base_version, update.base) or (
            update.is_whole and (name in self.needs or differs)
        ):
            self.stands_at(name, after)
            return True
        if differs:
            self.falls_behind(name)
        return False

    def stands_at(self, structure: str, held: Held) -> None:
        """It has this, and what follows can build on it."""
        self.needs.discard(structure)
        self.at[structure] = held

    def falls_behind(self, structure: str) -> None:
        """Nothing can build on what it has."""
        self.at.pop(structure, None)
        self.needs.add(structure)
