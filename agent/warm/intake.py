"""What a mirror's agent gives to its program, and which marks of the primary that program holds: a step machine. Pure.

Nothing is given to the program that does not have the primary's type. A mark is reached when the program has said that
it has each of its structures at the version and state that it names, or has had since this primary is followed; where a
structure is missing or another one here, no mark is reached, so that a program which lacks it is not promoted silently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.structures.update import NO_STATE, Update
from agent.warm.assembly import Aged
from transport.checkpoint import NOTHING, Version
from transport.structure_messages import Declare, Held, Mark, StructureMessage, Want, Withdraw

WAITING_MAX: Final = 256
"""Marks that may wait for the program to apply what they name; of more the oldest are of no use."""
PASSED_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Connected:
    """Event: there is a connection to the primary."""


@dataclass(frozen=True, slots=True)
class Own:
    """Event: this program has a structure. type: see `structure_messages.Declare`."""

    structure: str
    native: bool
    type: bytes
    holds: Held | None


@dataclass(frozen=True, slots=True)
class NoMore:
    """Event: this program can't have a structure any more."""

    structure: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reports:
    """Event: this program has a structure at this version and state now."""

    structure: str
    held: Held


@dataclass(frozen=True, slots=True)
class Lacks:
    """Event: this program needs a whole copy of a structure. held: what it has of it, None for nothing of worth."""

    structure: str
    held: Held | None
    reason: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """Event: the program has ended; a new one has nothing."""


IntakeEvent = Connected | Declare | Withdraw | Aged | Mark | Own | NoMore | Reports | Lacks | Emptied


@dataclass(frozen=True, slots=True)
class Say:
    """Effect: send to the primary."""

    message: StructureMessage


@dataclass(frozen=True, slots=True)
class Give:
    """Effect: give an update to the program."""

    update: Update
    age_us: int
    native: bool


@dataclass(frozen=True, slots=True)
class GiveCurrent:
    """Effect: tell the program that nothing is newer than this."""

    versions: dict[str, int]
    captured_ns: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Effect: the program holds this mark; tell the primary and the controller."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class Trouble:
    """Effect: say this to people."""

    structure: str
    what: str
    hint: str


IntakeEffect = Say | Give | GiveCurrent | Reach | Trouble


@dataclass(slots=True)
class _Structure:
    """One of this program. passed: the states that it has had since this primary is followed, the last one last."""

    own: Own
    held: Held | None
    passed: dict[bytes, None] = field(default_factory=dict)


class Intake:
    """One mirror. reached: the newest mark that its program holds, None for none."""

    def __init__(self) -> None:
        self.reached: Mark | None = None
        self.applied = 0
        self.bytes = 0
        self.trouble: dict[str, str] = {}
        self._theirs: dict[str, Declare] = {}
        self._own: dict[str, _Structure] = {}
        self._marks: deque[Mark] = deque(maxlen=WAITING_MAX)

    @property
    def version(self) -> Version:
        """Of the mark that the program holds."""
        return NOTHING if self.reached is None else self.reached.version

    @property
    def holds(self) -> Mapping[str, Held]:
        """What the program has of each structure."""
        return {name: one.held for name, one in self._own.items() if one.held is not None}

    @property
    def own(self) -> Mapping[str, Own]:
        """The structures of this program."""
        return {name: one.own for name, one in self._own.items()}

    @property
    def theirs(self) -> Mapping[str, Declare]:
        """The structures of the primary."""
        return self._theirs

    def explain(self, structure: str, what: str) -> None:
        """Why a structure of the primary is another one than it is here, in better words than `step` has."""
        self.trouble[structure] = what

    def missing(self) -> str:
        """Why no mark can be reached, in words; "" where nothing is known to be in the way."""
        for name in self._theirs:
            if name in self.trouble:
                return self.trouble[name]
        lacking = [name for name in self._theirs if name not in self._own]
        return f"the program here has no structure {', '.join(lacking)} yet" if lacking else ""

    def limit_bytes(self, structure: str) -> int:
        """How large a structure of the primary may be; 0 for one that is not taken."""
        theirs = self._theirs.get(structure)
        return theirs.limit_bytes if theirs is not None and self._fits(structure) else 0

    def step(self, event: IntakeEvent) -> list[IntakeEffect]:
        """Take in one event; return what is to be done, in this order."""
        match event:
            case Connected():
                return self._connected()
            case Declare():
                self._theirs[event.structure] = event
                return self._compared(event.structure)
            case Withdraw(structure, reason):
                self._theirs.pop(structure, None)
                self.trouble.pop(structure, None)
                what = f"the primary does not mirror {structure} any more: {reason}"
                return [Trouble(structure, what, ""), *self._reachable()]
            case Aged(update, age_us):
                return self._updated(update, age_us)
            case Mark():
                return self._marked(event)
            case Own():
                self._own[event.structure] = _Structure(event, event.holds, _first(event.holds))
                return self._compared(event.structure)
            case NoMore(structure, reason):
                self._own.pop(structure, None)
                self.trouble[structure] = reason
                return []
            case Reports(structure, held):
                return self._reported(structure, held)
            case Lacks(structure, held, reason):
                return self._lacks(structure, held, reason)
            case Emptied():
                self._own.clear()
                self.trouble.clear()
                self._marks.clear()
                self.reached = None
        return []

    def _connected(self) -> list[IntakeEffect]:
        self._theirs.clear()
        self._marks.clear()
        for one in self._own.values():
            one.passed = _first(one.held)
        return []

    def _fits(self, name: str) -> bool:
        theirs, one = self._theirs.get(name), self._own.get(name)
        return theirs is not None and one is not None and (theirs.native, theirs.type) == (one.own.native, one.own.type)

    def _compared(self, name: str) -> list[IntakeEffect]:
        """Both sides of a structure may be known by now: ask for it, or say why not."""
        theirs, one = self._theirs.get(name), self._own.get(name)
        if theirs is None or one is None:
            return []
        if not self._fits(name):
            what = f"structure {name} has another type here than on the primary"
            if not theirs.native and theirs.type_text:
                what += f", where it is {theirs.type_text}"
            if name in self.trouble:
                return []
            self.trouble[name] = what
            return [Trouble(name, what, "the same definition, and compatible builds, on both nodes")]
        self.trouble.pop(name, None)
        version, state = one.held or (0, NO_STATE)
        return [Say(Want(name, version, state, "it begins"))]

    def _updated(self, update: Update, age_us: int) -> list[IntakeEffect]:
        if not self._fits(update.structure):
            return []
        self.bytes += len(update.data)
        return [Give(update, age_us, self._theirs[update.structure].native)]

    def _marked(self, mark: Mark) -> list[IntakeEffect]:
        self._marks.append(mark)
        versions = {
            name: version
            for name, (version, _) in mark.holds.items()
            if self._fits(name) and not self._theirs[name].native
        }
        current: list[IntakeEffect] = [GiveCurrent(versions, mark.captured_ns)] if versions else []
        return current + self._reachable()

    def _reported(self, name: str, held: Held) -> list[IntakeEffect]:
        one = self._own.get(name)
        if one is None:
            return []
        one.held = held
        one.passed[held[1]] = None
        while len(one.passed) > PASSED_MAX:
            del one.passed[next(iter(one.passed))]
        self.applied += 1
        return self._reachable()

    def _lacks(self, name: str, held: Held | None, reason: str) -> list[IntakeEffect]:
        one = self._own.get(name)
        if one is None or not self._fits(name):
            return []
        if held is None:
            # Nor has it what was reached any more: another mark will be, when the whole copy is there.
            one.held, one.passed = None, {}
            self.reached = None
            self._marks.clear()
        return [Say(Want(name, *(held or (0, NO_STATE)), reason))]

    def _reachable(self) -> list[IntakeEffect]:
        """The newest of the marks that wait, of which everything is there."""
        found = next((mark for mark in reversed(self._marks) if self._is_here(mark)), None)
        if found is None:
            return []
        while self._marks.popleft() is not found:
            pass
        self.reached = found
        return [Reach(found)]

    def _is_here(self, mark: Mark) -> bool:
        return all(name in self._own and state in self._own[name].passed for name, (_, state) in mark.holds.items())


def _first(held: Held | None) -> dict[bytes, None]:
    return {} if held is None else {held[1]: None}
