"""What a primary's agent sends to which mirror, and what it may call safe: a step machine. Pure.

Updates come in order, each structure on its own. A mirror that builds on what the last update led to gets each as it
comes; one that does not gets none of that structure until a whole copy comes, which is asked for. *Marks* tie them
together: a mark names version and state of every structure at one moment, has a number, and is what is acknowledged,
selected by and promoted from, as a checkpoint is of a whole process. There is one at each interval, and one behind each
update, so that who waits in `commit()` waits no longer than it takes.

Memory: the newest marks; of a mirror that lags, updates are dropped and a whole copy is asked for later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.structures.update import Update
from agent.warm.assembly import change_messages
from agent.warm.feed_events import (
    AskWhole,
    Confirm,
    Drop,
    FeedEffect,
    FeedEvent,
    Flowing,
    Has,
    Jammed,
    Joined,
    Left,
    Lost,
    Nothing,
    Progress,
    Send,
    Source,
    Stands,
    Supplied,
    Tick,
    Told,
    Updated,
    Wants,
)
from agent.warm.marks import Marks
from agent.warm.subscriber import Subscriber
from transport.checkpoint import NOTHING, Version
from transport.structure_messages import Declare, Held, Want, Withdraw

STALL_NS: Final = 10_000_000_000
"""A mirror that reaches no mark for so long, although there are some, is dropped: it counts no more."""


class Feed:
    """The stream of one primary. bytes: of all updates."""

    def __init__(self, program: str, token: int, number: int = 0) -> None:
        """number: of the mark that it goes on from."""
        self.token = token
        self.marks = Marks(token, number)
        self.bytes = 0
        self.whole_bytes: dict[str, int] = {}
        """Of the newest whole copy of each structure, as it travels."""
        self.declared: dict[str, Declare] = {}
        self._program = program
        self._at: dict[str, Held] = {}
        self._asked: set[str] = set()
        self._confirmed: dict[str, tuple[int, int]] = {}
        self._subscribers: dict[int, Subscriber] = {}

    @property
    def version(self) -> Version:
        """The newest mark; NOTHING while not every structure has come."""
        return self.marks.version

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
                self.marks.nothing_newer(source, at_ns)
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
                subscriber.jam()
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
            subscriber.forget(declare.structure)
        return [Send(tuple(self._subscribers), (declare,))] if self._subscribers else []

    def _lost(self, structure: str, reason: str) -> list[FeedEffect]:
        if self.declared.pop(structure, None) is None:
            return []
        self._at.pop(structure, None)
        self._confirmed.pop(structure, None)
        for subscriber in self._subscribers.values():
            subscriber.forget(structure)
        return [Send(tuple(self._subscribers), (Withdraw(structure, reason),))] if self._subscribers else []

    def _updated(self, update: Update, age_us: int) -> list[FeedEffect]:
        name = update.structure
        if name not in self.declared:
            return []
        self._at[name] = (update.version, update.state)
        takers = tuple(one.subscriber for one in self._subscribers.values() if one.takes(update))
        if update.is_whole:
            self._asked.discard(name)
            self.whole_bytes[name] = len(update.data)
        self.bytes += len(update.data)
        sent: list[FeedEffect] = []
        if takers:
            sent.append(Send(takers, change_messages(update, age_us), may_drop=not update.is_whole))
        return sent + self._ask_for_who_lacks(name)

    def _stands(self, name: str, held: Held) -> list[FeedEffect]:
        """Whoever holds the same follows; the others need a whole copy."""
        if name not in self.declared:
            return []
        self._at[name] = held
        self.marks.goes_on(self._source(name))
        effects: list[FeedEffect] = []
        for one in self._subscribers.values():
            if one.at.get(name, held) != held:
                one.falls_behind(name)
            if one.lacks(name) and one.wanted.get(name) == held:
                effects += self._in_step(one, name, held)
        return effects + self._ask_for_who_lacks(name)

    def _source(self, name: str) -> Source:
        return "native" if self.declared[name].native else "program"

    def _in_step(self, subscriber: Subscriber, name: str, held: Held) -> list[FeedEffect]:
        subscriber.stands_at(name, held)
        return self._repeat_mark(subscriber)

    def _ask_for_who_lacks(self, name: str) -> list[FeedEffect]:
        return self._ask({name}) if any(one.lacks(name) for one in self._subscribers.values()) else []

    def _ask(self, names: set[str]) -> list[FeedEffect]:
        """Ask for the whole copies that are missing, each once until it comes."""
        missing = sorted(name for name in names if name in self.declared and name not in self._asked)
        self._asked.update(missing)
        return [AskWhole(name, self.declared[name].native) for name in missing]

    def interrupted(self) -> None:
        """The connection to the program was lost, with what was asked of it. A new one says where it stands."""
        self._asked = {name for name in self._asked if name in self.declared and self.declared[name].native}

    # ------------------------------------------------------------ marks

    def _mark(self, now_ns: int, *, final: bool) -> list[FeedEffect]:
        if not self.marks.can_be_made or not self.declared or self._at.keys() < self.declared.keys():
            return []
        before = self.version
        holds = {name: self._at[name] for name in sorted(self.declared)}
        mark = self.marks.make(holds, {self._source(name) for name in holds}, self.bytes, final=final)
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
        counting = [one for one in self._subscribers.values() if one.counts]
        floor = min((one.reached.number for one in counting), default=self.version.number)
        safe = self.marks.up_to(floor)
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
        self.marks.follow(event.holds)
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
        subscriber.falls_behind(name)
        # Where nothing is known of the structure yet, the program is about to say where it stands, or to send it whole.
        return [] if subscriber.is_jammed or name not in self._at else self._ask({name})

    def _repeat_mark(self, subscriber: Subscriber) -> list[FeedEffect]:
        """Who has everything already need not wait for the next one, which may be the last."""
        last = self.marks.last
        if last is not None and not subscriber.needs and subscriber.at.keys() >= self.declared.keys():
            return [Send((subscriber.subscriber,), (last,))]
        return []

    def _has(self, now_ns: int, subscriber: Subscriber, version: Version) -> list[FeedEffect]:
        if self.marks.dated(version) is None:
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
