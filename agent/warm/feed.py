"""What a primary's agent sends to which mirror, and what it may call safe: a step machine. Pure.

Updates come in order, each structure on its own. A mirror that builds on what the last update led to gets each as it
comes; one that does not gets none of that structure until a whole copy comes, which is asked for. *Marks* tie them
together: a mark names version and state of every structure at one moment, has a number, and is what is acknowledged,
selected by and promoted from, as a checkpoint is of a whole process. There is one at each interval, and one behind each
update, so that who waits in `commit()` waits no longer than it takes.

Memory: the newest MARKS_MAX marks; of a mirror that lags, updates are dropped and a whole copy is asked for later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import xxhash

from agent.structures.update import Update
from agent.warm.assembly import change_messages
from transport.checkpoint import NOTHING, Version
from transport.messages import Announce
from transport.structure_messages import Declare, Held, Mark, StructureMessage, Want, Withdraw

MARKS_MAX: Final = 4096
STALL_NS: Final = 10_000_000_000
"""A mirror that reaches no mark for so long, although there are some, is dropped: it counts no more."""

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


@dataclass(frozen=True, slots=True)
class Dated:
    """A mark as it was made. bytes: of all updates up to it."""

    mark: Mark
    bytes: int


@dataclass(slots=True)
class Subscriber:
    """A connected mirror. reached: its newest mark of this primary;
    since_ns: when it was last in step; at: where each structure will be when all that was
    sent has arrived; a structure that it does not want, or needs whole, is not in it (`needs`); wanted: what it has
    said last that it holds."""

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


class Feed:
    """The stream of one primary. made: how many marks. bytes: of all updates."""

    def __init__(self, program: str, token: int, number: int = 0) -> None:
        """number: of the mark that it goes on from."""
        self.token = token
        self.marks: deque[Dated] = deque(maxlen=MARKS_MAX)
        self.made = 0
        self.bytes = 0
        self.whole_bytes: dict[str, int] = {}
        """Of the newest whole copy of each structure, as it travels."""
        self.declared: dict[str, Declare] = {}
        self._program = program
        self._number = number
        self._at: dict[str, Held] = {}
        self._asked: set[str] = set()
        self._known_ns: dict[Source, int] = {}
        self._silent: set[Source] = set()
        """Who has said where it stands, but not yet that there is nothing newer: no mark can be dated."""
        self._confirmed: dict[str, tuple[int, int]] = {}
        self._subscribers: dict[int, Subscriber] = {}
        self._is_over = False

    @property
    def version(self) -> Version:
        """The newest mark; NOTHING while not every structure has come."""
        return self.marks[-1].mark.version if self.marks else NOTHING

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """For the status; not to be changed."""
        return tuple(self._subscribers.values())

    @property
    def at(self) -> Mapping[str, Held]:
        """Version and state of each structure of which something came."""
        return self._at

    def step(self, now_ns: int, event: FeedEvent) -> list[FeedEffect]:
        """Take in one event; return what is to be done, in this order. now_ns: any clock that does not go back.

        Events of mirrors that are no longer known are ignored: they crossed with a Drop.
        """
        match event:
            case Supplied(declare):
                return self._supplied(declare)
            case Lost(structure, reason):
                return self._lost(structure, reason)
            case Updated(update, age_us):
                return self._updated(update, age_us) + self._mark(now_ns, final=False)
            case Stands(structure, held):
                return self._stands(structure, held)
            case Nothing(source, at_ns):
                self._silent.discard(source)
                self._known_ns[source] = max(at_ns, self._known_ns.get(source, 0))
                return []
            case Tick(final):
                return self._mark(now_ns, final=final)
            case Told(announcement):
                return [Send(tuple(self._subscribers), (announcement,))] if self._subscribers else []
            case Joined():
                return self._joined(now_ns, event)
        subscriber = self._subscribers.get(event.subscriber)
        if subscriber is None:
            return []
        match event:
            case Wants(_, want):
                return self._wants(subscriber, want)
            case Has(_, version):
                return self._has(now_ns, subscriber, version)
            case Left():
                del self._subscribers[subscriber.subscriber]
                return self._confirmations()
            case Jammed():
                subscriber.is_jammed = True
                subscriber.needs |= subscriber.at.keys()
                subscriber.at.clear()
                return self._confirmations()
            case Flowing():
                subscriber.is_jammed = False
                return self._ask(subscriber.needs)

    # ------------------------------------------------------------ what the program says

    def _supplied(self, declare: Declare) -> list[FeedEffect]:
        if self.declared.get(declare.structure) == declare:
            return []
        self.declared[declare.structure] = declare
        self._at.pop(declare.structure, None)
        for subscriber in self._subscribers.values():
            subscriber.at.pop(declare.structure, None)
            subscriber.needs.discard(declare.structure)
        return [Send(tuple(self._subscribers), (declare,))] if self._subscribers else []

    def _lost(self, structure: str, reason: str) -> list[FeedEffect]:
        if self.declared.pop(structure, None) is None:
            return []
        self._at.pop(structure, None)
        self._confirmed.pop(structure, None)
        for subscriber in self._subscribers.values():
            subscriber.at.pop(structure, None)
            subscriber.needs.discard(structure)
        return [Send(tuple(self._subscribers), (Withdraw(structure, reason),))] if self._subscribers else []

    def _updated(self, update: Update, age_us: int) -> list[FeedEffect]:
        name = update.structure
        if name not in self.declared:
            return []
        after = (update.version, update.state)
        self._at[name] = after
        takers: list[int] = []
        for one in self._subscribers.values():
            if one.is_jammed:
                continue
            if one.at.get(name) == (update.base_version, update.base):
                one.at[name] = after
                takers.append(one.subscriber)
            elif update.is_whole and (name in one.needs or one.at.get(name, after) != after):
                one.needs.discard(name)
                one.at[name] = after
                takers.append(one.subscriber)
            elif one.at.get(name, after) != after:
                del one.at[name]
                one.needs.add(name)
        if update.is_whole:
            self._asked.discard(name)
            self.whole_bytes[name] = len(update.data)
        self.bytes += len(update.data)
        sent: list[FeedEffect] = []
        if takers:
            sent.append(Send(tuple(takers), change_messages(update, age_us), may_drop=not update.is_whole))
        return sent + self._ask({name for one in self._subscribers.values() if name in one.needs and not one.is_jammed})

    def _stands(self, name: str, held: Held) -> list[FeedEffect]:
        """Whoever holds the same follows; the others need a whole copy."""
        if name not in self.declared:
            return []
        self._at[name] = held
        source = self._source(name)
        if source not in self._known_ns:
            self._silent.add(source)
        effects: list[FeedEffect] = []
        for one in self._subscribers.values():
            if one.at.get(name, held) != held:
                del one.at[name]
                one.needs.add(name)
            if not one.is_jammed and name in one.needs and one.wanted.get(name) == held:
                effects += self._in_step(one, name, held)
        return effects + self._ask(
            {name for one in self._subscribers.values() if name in one.needs and not one.is_jammed}
        )

    def _source(self, name: str) -> Source:
        return "native" if self.declared[name].native else "program"

    def _in_step(self, subscriber: Subscriber, name: str, held: Held) -> list[FeedEffect]:
        subscriber.needs.discard(name)
        subscriber.at[name] = held
        return self._repeat_mark(subscriber)

    def _ask(self, names: set[str]) -> list[FeedEffect]:
        """Ask for the whole copies that are missing, each once until it comes."""
        missing = sorted(name for name in names if name in self.declared and name not in self._asked)
        self._asked.update(missing)
        return [AskWhole(name, self.declared[name].native) for name in missing]

    def interrupted(self) -> None:
        """The connection to the program was lost, with what was asked of it. A new one says where it stands."""
        self._asked = {name for name in self._asked if name in self.declared and self.declared[name].native}

    def reopen(self) -> None:
        """The last mark was not the last: the program goes on."""
        self._is_over = False

    # ------------------------------------------------------------ marks

    def _mark(self, now_ns: int, *, final: bool) -> list[FeedEffect]:
        if self._is_over or self._silent or not self.declared or self._at.keys() < self.declared.keys():
            return []
        self._is_over = final
        self._number += 1
        holds = {name: self._at[name] for name in sorted(self.declared)}
        sources = {self._source(name) for name in self.declared}
        captured_ns = min(self._known_ns.get(source, 0) for source in sources)
        mark = Mark(Version(self.token, self._number, _digest(holds)), captured_ns, holds, final)
        before = self.version
        self.marks.append(Dated(mark, self.bytes))
        self.made += 1
        effects: list[FeedEffect] = []
        for one in tuple(self._subscribers.values()):
            if one.reached == before:
                one.since_ns = now_ns
            elif one.counts and not one.needs and now_ns - one.since_ns > STALL_NS:
                del self._subscribers[one.subscriber]
                effects.append(Drop(one.subscriber, f"reaches no mark for {STALL_NS // 10**9} s"))
        there = tuple(one.subscriber for one in self._subscribers.values() if not one.is_jammed)
        if there:
            effects.append(Send(there, (mark,)))
        return effects + self._confirmations()

    def _confirmations(self) -> list[FeedEffect]:
        """What every mirror that counts has by now; where none counts, `async` waits for nobody."""
        if not self.marks:
            return []
        counting = [one for one in self._subscribers.values() if one.counts]
        floor = min((one.reached.number for one in counting), default=self._number)
        safe = next((dated.mark for dated in reversed(self.marks) if dated.mark.version.number <= floor), None)
        if safe is None:
            return []
        effects: list[FeedEffect] = []
        for name, (version, _) in safe.holds.items():
            if name in self.declared and self._confirmed.get(name) != (version, len(counting)):
                self._confirmed[name] = (version, len(counting))
                effects.append(Confirm(name, version, len(counting)))
        return effects

    # ------------------------------------------------------------ what mirrors say

    def _joined(self, now_ns: int, event: Joined) -> list[FeedEffect]:
        if event.program != self._program:
            return [Drop(event.subscriber, f"{self._program} is here, not {event.program}")]
        if event.token > self.token:
            return [Drop(event.subscriber, f"superseded: token {event.token} has been seen, {self.token} is ours")]
        effects: list[FeedEffect] = []
        for other in tuple(self._subscribers.values()):
            if other.instance == event.instance:
                if other.incarnation > event.incarnation:
                    return [Drop(event.subscriber, "a newer incarnation of the same instance is connected")]
                del self._subscribers[other.subscriber]
                effects.append(Drop(other.subscriber, "replaced by a newer connection of the same instance"))
        if event.holds.token == self.token:
            # An agent was here before this one, and numbers must not come again.
            self._number = max(self._number, event.holds.number)
        self._subscribers[event.subscriber] = Subscriber(event.subscriber, event.instance, event.incarnation, now_ns)
        if self.declared:
            effects.append(Send((event.subscriber,), tuple(self.declared.values())))
        return effects

    def _wants(self, subscriber: Subscriber, want: Want) -> list[FeedEffect]:
        name = want.structure
        if name not in self.declared:
            return []
        held = subscriber.wanted[name] = (want.version, want.state)
        if want.version and self._at.get(name) == held:
            return self._in_step(subscriber, name, held)
        subscriber.at.pop(name, None)
        subscriber.needs.add(name)
        # Where nothing is known of the structure yet, the program is about to say where it stands, or to send it whole.
        return [] if subscriber.is_jammed or name not in self._at else self._ask({name})

    def _repeat_mark(self, subscriber: Subscriber) -> list[FeedEffect]:
        """Who has everything already need not wait for the next one, which may be the last."""
        if self._is_over and not subscriber.needs and subscriber.at.keys() >= self.declared.keys():
            return [Send((subscriber.subscriber,), (self.marks[-1].mark,))]
        return []

    def _has(self, now_ns: int, subscriber: Subscriber, version: Version) -> list[FeedEffect]:
        if not any(dated.mark.version == version for dated in reversed(self.marks)):
            del self._subscribers[subscriber.subscriber]
            return [
                Drop(subscriber.subscriber, f"says that it has reached {version}, which is no mark of this primary")
            ]
        first, subscriber.reached = subscriber.reached == NOTHING, version
        subscriber.since_ns = now_ns
        effects = self._confirmations()
        if first:
            effects.append(Progress(subscriber.instance, subscriber.incarnation, version))
        return effects


def _digest(holds: Mapping[str, Held]) -> int:
    digest = xxhash.xxh3_64()
    for name, (version, state) in holds.items():
        digest.update(name.encode() + b"\0" + version.to_bytes(8, "little") + state)
    return digest.intdigest() or 1
