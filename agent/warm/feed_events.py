"""What a feed is told of, and what it wants done. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.structures.update import Update
from transport.checkpoint import Version
from transport.messages import Announce
from transport.structure_messages import Declare, Held, StructureMessage, Want

Source = Literal["program", "native"]


@dataclass(frozen=True, slots=True)
class Supplied:
    """Event: there is a structure, or it is declared once more."""

    declare: Declare


@dataclass(frozen=True, slots=True)
class Lost:
    """Event: a structure is not mirrored any more."""

    structure: str
    reason: str


@dataclass(frozen=True, slots=True)
class Updated:
    """Event: an update or a whole copy has come."""

    update: Update
    age_us: int


@dataclass(frozen=True, slots=True)
class Stands:
    """Event: a structure goes on from this version and state, which mirrors may have."""

    structure: str
    held: Held


@dataclass(frozen=True, slots=True)
class Nothing:
    """Event: at this time (CLOCK_REALTIME) this source had nothing newer than what it has sent."""

    source: Source
    at_ns: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Event: a mark is due. final: the program has ended, or stands still for a switch."""

    final: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """Event: a mirror is connected. token: the highest that it has seen."""

    subscriber: int
    program: str
    instance: str
    incarnation: int
    holds: Version
    token: int


@dataclass(frozen=True, slots=True)
class Wants:
    """Event: a mirror says what it holds of a structure, and wants what follows."""

    subscriber: int
    want: Want


@dataclass(frozen=True, slots=True)
class Has:
    """Event: a mirror has reached a mark."""

    subscriber: int
    version: Version


@dataclass(frozen=True, slots=True)
class Left:
    """Event: the connection to a mirror ended."""

    subscriber: int


@dataclass(frozen=True, slots=True)
class Jammed:
    """Event: a mirror does not keep up; what was sent last to it was dropped."""

    subscriber: int


@dataclass(frozen=True, slots=True)
class Flowing:
    """Event: all that was sent to a jammed mirror is with the kernel."""

    subscriber: int


@dataclass(frozen=True, slots=True)
class Told:
    """Event: connections of the program's clients came and went."""

    announcement: Announce


FeedEvent = Supplied | Lost | Updated | Stands | Nothing | Tick | Joined | Wants | Has | Left | Jammed | Flowing | Told


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: send to all of these, in order. may_drop: rather than let more than there is room for wait."""

    subscribers: tuple[int, ...]
    messages: tuple[StructureMessage, ...]
    may_drop: bool = False


@dataclass(frozen=True, slots=True)
class AskWhole:
    """Effect: let a whole copy of a structure come. native: whom to ask."""

    structure: str
    native: bool


@dataclass(frozen=True, slots=True)
class Confirm:
    """Effect: every mirror that counts (so many) has a structure at this version or a later one."""

    structure: str
    version: int
    mirrors: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Effect: tell of the first mark of this primary that a mirror has reached."""

    instance: str
    incarnation: int
    version: Version


@dataclass(frozen=True, slots=True)
class Drop:
    """Effect: say goodbye to a mirror, for this reason. It is forgotten already."""

    subscriber: int
    reason: str


FeedEffect = Send | AskWhole | Confirm | Progress | Drop
