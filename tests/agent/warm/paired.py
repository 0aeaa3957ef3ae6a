"""A primary's feed and one mirror's intake joined by queues; the two programs are dictionaries of numbers.

The production cores, and a program that behaves as docs/structures-protocol.md says: a content is a number, an update
says which number follows which, a state names the history.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field

from agent.structures.update import NO_STATE, Update
from agent.warm.assembly import Aged, Assembly, begun
from agent.warm.feed import Feed
from agent.warm.feed_events import (
    AskWhole,
    Confirm,
    Drop,
    FeedEffect,
    FeedEvent,
    Has,
    Joined,
    Left,
    Nothing,
    Progress,
    Send,
    Stands,
    Supplied,
    Tick,
    Updated,
    Wants,
)
from agent.warm.intake import Connected, Emptied, Give, GiveCurrent, Intake, IntakeEffect, Own, Reach, Reports, Say
from transport.structure_messages import Change, Declare, Mark, Piece, Reached, StructureMessage, Want

NAMES = ("book", "table")
TYPE = b"a number"
LIMIT_BYTES = 1 << 20


@dataclass
class Original:
    """A structure of the primary's program."""

    name: str
    token: int
    version: int = 0
    state: bytes = NO_STATE
    content: int = 0

    def change(self, content: int) -> Update:
        """The update that leads there."""
        base_version, base = self.version, self.state
        self.version, self.content = self.version + 1, content
        self.state = _named(self.name, self.version, base, content)
        data = content.to_bytes(8, "little")
        return (
            Update(self.name, self.token, base_version, base, self.version, self.state, self.state, data)
            if base_version
            else self.whole()
        )

    def whole(self) -> Update:
        """All of it."""
        data = self.content.to_bytes(8, "little")
        return Update(self.name, self.token, 0, NO_STATE, self.version, self.state, self.state, data)


def _named(name: str, version: int, base: bytes, content: int) -> bytes:
    return hashlib.blake2b(repr((name, version, base, content)).encode(), digest_size=8).digest()


@dataclass
class Pair:
    """Both sides. contents: what the primary's program had at each mark, by its version. confirmed: by structure."""

    token: int = 1
    feed: Feed = field(init=False)
    intake: Intake = field(default_factory=Intake)
    originals: dict[str, Original] = field(init=False)
    mirror: dict[str, tuple[int, bytes, int]] = field(default_factory=dict)
    contents: dict[Mark, dict[str, int]] = field(default_factory=dict, init=False)
    confirmed: dict[str, tuple[int, int]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    wholes: int = 0
    down: deque[StructureMessage] = field(default_factory=deque)
    up: deque[StructureMessage] = field(default_factory=deque)
    unapplied: deque[Update] = field(default_factory=deque)
    number: int = 0
    is_connected: bool = False
    stands: bool = True
    now_ns: int = 0
    marks: list[tuple[Mark, dict[str, int]]] = field(default_factory=list)
    assembly: Assembly = field(default_factory=Assembly)

    def __post_init__(self) -> None:
        self.feed = Feed("paired", self.token)
        self.originals = {name: Original(name, self.token) for name in NAMES}
        for name in NAMES:
            self.tell(Supplied(Declare(name, False, TYPE, "number", LIMIT_BYTES)))
            self.change(name, 0)
        self.start_program()

    # ------------------------------------------------------------ what happens

    def tell(self, event: FeedEvent) -> None:
        """The feed takes in an event."""
        self.now_ns += 1_000_000
        self._perform(self.feed.step(self.now_ns, event))

    def change(self, name: str, content: int) -> None:
        """The primary's program changes a structure."""
        self.stand()
        self.tell(Updated(self.originals[name].change(content), 0))

    def tick(self, *, final: bool = False) -> None:
        self.tell(Tick(final))

    def connect(self) -> None:
        if not self.is_connected:
            self.is_connected = True
            self.number += 1
            self.assembly = Assembly()
            self._take(self.intake.step(Connected()))
            self.tell(Joined(self.number, "paired", "paired@b", 1, self.intake.version, self.token))

    def cut(self) -> None:
        if self.is_connected:
            self.is_connected = False
            self.down.clear()
            self.up.clear()
            self.tell(Left(self.number))

    def to_mirror(self) -> None:
        """One message arrives."""
        if self.down:
            message = self.down.popleft()
            match message:
                case Change():
                    self._whole(begun(self.assembly, message, LIMIT_BYTES))
                case Piece(data):
                    self._whole(self.assembly.more(data))
                case Declare() | Mark():
                    self._take(self.intake.step(message))

    def to_primary(self) -> None:
        """One message arrives."""
        if self.up:
            match self.up.popleft():
                case Want() as want:
                    self.tell(Wants(self.number, want))
                case Reached(version):
                    self.tell(Has(self.number, version))

    def apply(self) -> None:
        """The mirror's program applies what it was given first."""
        if self.unapplied:
            update = self.unapplied.popleft()
            held = self.mirror.get(update.structure, (0, NO_STATE, 0))
            assert update.is_whole or held[:2] == (update.base_version, update.base), "it does not follow"
            self.mirror[update.structure] = (update.version, update.state, int.from_bytes(update.data, "little"))
            self._take(self.intake.step(Reports(update.structure, (update.version, update.state))))

    def start_program(self) -> None:
        """The mirror's program starts, with nothing."""
        self.mirror.clear()
        for name in NAMES:
            self._take(self.intake.step(Own(name, False, TYPE, None)))

    def promote(self, *, keeps: bool) -> None:
        """The mirror goes on as the primary, once it has applied what it was given. The former primary is its mirror:
        it keeps what it had (as any other mirror may have had it), or begins with nothing. `stand` follows."""
        while self.unapplied:
            self.apply()
        if self.intake.reached is None or self.mirror.keys() < set(NAMES):
            return
        self.cut()
        former = {name: (one.version, one.state, one.content) for name, one in self.originals.items()}
        number, self.token = self.intake.version.number, self.token + 1
        self.originals = {name: Original(name, self.token, *self.mirror[name]) for name in NAMES}
        self.feed, self.intake = Feed("paired", self.token, number), Intake()
        self.mirror = former if keeps else {}
        self.confirmed.clear()
        self.stands = False
        for name in NAMES:
            self.tell(Supplied(Declare(name, False, TYPE, "number", LIMIT_BYTES)))
            self._take(self.intake.step(Own(name, False, TYPE, self.mirror[name][:2] if keeps else None)))

    def stand(self) -> None:
        """A promoted program says what it goes on from."""
        if not self.stands:
            self.stands = True
            self.tell(Nothing("program", self.now_ns))
            for name, one in self.originals.items():
                self.tell(Stands(name, (one.version, one.state)))

    def reconnect(self, name: str, content: int) -> None:
        """The primary's program lost its connection with what it had just sent over it, and says hello again."""
        self.originals[name].change(content)
        self.feed.interrupted()
        self.stands = False
        self.stand()

    def restart_program(self) -> None:
        """The mirror's program ends, and another one starts."""
        self.unapplied.clear()
        self._take(self.intake.step(Emptied()))
        self.cut()
        self.start_program()

    def settle(self) -> None:
        """Everything that is under way arrives."""
        self.stand()
        while self.down or self.up or self.unapplied:
            self.to_mirror()
            self.to_primary()
            self.apply()

    # ------------------------------------------------------------ what must hold

    def check(self) -> None:
        """A mirror that says that it holds a mark has had exactly that, and what was confirmed is there."""
        reached = self.intake.reached
        if reached is not None:
            # It may be ahead by what came after the mark, never behind it.
            for name, (version, state) in reached.holds.items():
                held_version, held_state, content = self.mirror[name]
                assert held_version >= version
                if held_version == version:
                    assert held_state == state
                    known = next(contents for mark, contents in self.marks if mark.version == reached.version)
                    assert content == known[name]
        for name, (version, mirrors) in self.confirmed.items():
            if mirrors:
                assert self.mirror[name][0] >= version

    def _whole(self, aged: Aged | None) -> None:
        if aged is not None:
            self._take(self.intake.step(aged))

    def _perform(self, effects: list[FeedEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(_, messages):
                    self._sent(messages)
                case AskWhole(structure, _):
                    self.wholes += 1
                    self.tell(Updated(self.originals[structure].whole(), 0))
                case Confirm(structure, version, mirrors):
                    self.confirmed[structure] = (version, mirrors)
                case Drop(_, reason):
                    self.dropped.append(reason)
                    self.is_connected = False
                    self.down.clear()
                    self.up.clear()
                case Progress():
                    pass

    def _sent(self, messages: tuple[StructureMessage, ...]) -> None:
        for message in messages:
            if isinstance(message, Mark):
                self.marks.append((message, {name: one.content for name, one in self.originals.items()}))
            if self.is_connected:
                self.down.append(message)

    def _take(self, effects: list[IntakeEffect]) -> None:
        for effect in effects:
            match effect:
                case Say(message) if self.is_connected:
                    self.up.append(message)
                case Give(update, _, _):
                    self.unapplied.append(update)
                case Reach(mark) if self.is_connected:
                    self.up.append(Reached(mark.version))
                case GiveCurrent() | _:
                    pass
