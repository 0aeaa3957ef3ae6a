"""A primary and mirrors joined without sockets: production cores and real frames, scripted faults, a checker apart.

The checker knows only what the primary published (version -> memory and records) and what is in the mirror's shadow.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from transport import pubsub, session
from transport.checkpoint import (
    NOTHING,
    PAGE_WORDS,
    Header,
    Records,
    Version,
    chain_digest,
    combined_sum,
    diff_records,
)
from transport.counters import Counters
from transport.delta import PagePartDecoder, PagePartEncoder, RecordsPart, Words, part_sum, records_parts
from transport.envelope import Inbox, Outbox
from transport.errors import CorruptUpdate, FrameError, StaleUpdate
from transport.messages import (
    STREAM,
    Ack,
    Begin,
    Bye,
    End,
    Pages,
    RecordsMessage,
    Refuse,
    StreamMessage,
    Subscribe,
)

PROGRAM = "redis"
PART = 3
PLACES = 12
ENCODER = PagePartEncoder("zstd")
DECODER = PagePartDecoder()

Memory = dict[int, bytes]
State = tuple[Memory, Records]


class Violation(AssertionError):
    """A mirror holds something that was never published."""


def _rows(memory: Memory, pages: Iterable[int]) -> Words:
    blank = bytes(PAGE_WORDS * 8)
    return np.frombuffer(b"".join(memory.get(page, blank) for page in pages), np.uint64).reshape(-1, PAGE_WORDS).copy()


def _chunks(pages: list[int]) -> list[list[int]]:
    return [pages[at : at + PART] for at in range(0, len(pages), PART)]


def _whole(memory: Memory, pages: list[int]) -> Pages:
    return Pages(ENCODER.encode(np.array(pages, np.uint64), None, _rows(memory, pages), None))


@dataclass
class Wire:
    """One connection: sealed frames under way in both directions."""

    down_box: Outbox[StreamMessage]
    up_box: Outbox[StreamMessage]
    down_in: Inbox[StreamMessage]
    up_in: Inbox[StreamMessage]
    down: deque[bytes] = field(default_factory=deque)
    up: deque[bytes] = field(default_factory=deque)

    def send_down(self, message: StreamMessage) -> None:
        self.down.append(b"".join(self.down_box.seal(message)))

    def send_up(self, message: StreamMessage) -> None:
        self.up.append(b"".join(self.up_box.seal(message)))


class Mirror:
    """Performs the effects of a MirrorSession on a shadow that is a dict."""

    def __init__(self, name: str, make: Callable[..., session.MirrorSession]) -> None:
        self.name = name
        self.session = make(PROGRAM, 1, Counters())
        self.memory: Memory = {}
        self.records: Records = {}
        self.at = NOTHING
        self.staged: list[Pages | RecordsMessage] = []
        self.committed: deque[tuple[Header, list[Pages | RecordsMessage]]] = deque()

    def perform(self, effects: list[session.SessionEffect], wire: Wire | None) -> bool:
        """Return whether the connection is to be closed."""
        closing = False
        for effect in effects:
            match effect:
                case session.SendSubscribe(holds) if wire:
                    wire.send_up(Subscribe(PROGRAM, f"{PROGRAM}@{self.name}", 1, holds))
                case session.SendAck(version) if wire:
                    wire.send_up(Ack(version))
                case session.SendRefuse(holds, reason) if wire:
                    wire.send_up(Refuse(holds, reason))
                case session.StartOver():
                    self._blank()
                    self.staged.clear()
                case session.Stage(part, direct):
                    if direct and isinstance(part, Pages):
                        self._write(part)
                    else:
                        self.staged.append(part)
                case session.Discard(blank):
                    self.staged.clear()
                    if blank:
                        self._blank()
                case session.Resync():
                    self._blank()
                case session.Commit(header):
                    self.committed.append((header, self.staged))
                    self.staged = []
                case session.Close():
                    closing = True
                case _:
                    pass
        return closing

    def apply(self) -> session.SessionEvent | None:
        """Apply the oldest committed checkpoint; return what to tell the session."""
        if not self.committed:
            return None
        header, parts = self.committed.popleft()
        try:
            for part in parts:
                if isinstance(part, Pages):
                    self._write(part)
                else:
                    self.records = RecordsPart.decode(part.part).apply(self.records)
        except CorruptUpdate as error:
            self._blank()
            return session.ApplyFailed(header.version, error.what)
        self.at = header.version
        return session.Applied(header.version)

    def _write(self, message: Pages) -> None:
        part = DECODER.decode(message.part)
        pages = [int(page) for page in part.pages]
        out = _rows(self.memory, pages)
        part.resolve(out.copy(), out)
        self.memory.update({page: out[row].tobytes() for row, page in enumerate(pages)})

    def _blank(self) -> None:
        self.memory, self.records, self.at = {}, {}, NOTHING
        self.committed.clear()


@dataclass
class Transfer:
    """A full transfer under way: the chunks of the image that are still to be sent."""

    begun: Header
    chunks: deque[list[int]]
    sums: list[int] = field(default_factory=list)


class Primary:
    """Captures states and performs the effects of a Publisher."""

    def __init__(self, token: int, start: Version, state: State, published: dict[Version, State]) -> None:
        self.publisher = pubsub.Publisher(PROGRAM, token, (start,) if start != NOTHING else ())
        self.token = token
        self.memory: Memory = dict(state[0])
        self.records: Records = dict(state[1])
        self.changed = dict.fromkeys(self.memory, start.number)
        self.published = published
        self.wires: dict[int, Wire] = {}
        self.transfers: dict[int, Transfer] = {}
        self.saboteur: Callable[[list[StreamMessage]], list[StreamMessage]] | None = None
        self._delta: list[StreamMessage] = []

    def capture(self, changes: Memory, records: Records, now_ns: int = 0) -> list[int]:
        """Take a checkpoint with these changes; return the subscribers that were dropped."""
        base = self.publisher.latest
        number = base.number + 1
        pages = sorted(changes)
        messages: list[StreamMessage] = []
        for chunk in _chunks(pages):
            fresh = np.array([page not in self.memory for page in chunk])
            old, new = _rows(self.memory, chunk), _rows(changes, chunk)
            messages.append(Pages(ENCODER.encode(np.array(chunk, np.uint64), old, new, fresh)))
        sums = [part_sum(message.part) for message in messages if isinstance(message, Pages)]
        recs = [RecordsMessage(part.encode()) for part in records_parts(*diff_records(self.records, records))]
        record_sums = [part_sum(message.part) for message in recs]
        version = Version(self.token, number, chain_digest(base, self.token, number, sums, combined_sum(record_sums)))
        header = Header(PROGRAM, version, base, number, len(pages), len(sums), False, "delta")
        end = End(header, len(recs), combined_sum(sums + record_sums))
        self._delta = [Begin(header), *messages, *recs, end]
        self.memory.update(changes)
        self.records = dict(records)
        self.changed.update(dict.fromkeys(pages, number))
        self.published[version] = (dict(self.memory), dict(records))
        return self.perform(self.publisher.step(now_ns, pubsub.Captured(version, base)))

    def perform(self, effects: list[pubsub.PublisherEffect]) -> list[int]:
        dropped = []
        for effect in effects:
            match effect:
                case pubsub.SendDelta(subscribers, _):
                    for subscriber in subscribers:
                        self._send(subscriber, list(self._delta))
                case pubsub.SendUnion(subscriber, base, version):
                    header = Header(PROGRAM, version, base, version.number, 0, 0, False, "union")
                    self._send(subscriber, self._ending(header, base.number, [], begin=True))
                case pubsub.SendFull(subscriber, version):
                    header = Header(PROGRAM, version, NOTHING, 0, len(self.memory), 0, False, "full")
                    self.transfers[subscriber] = Transfer(header, deque(_chunks(sorted(self.memory))))
                    self._send(subscriber, [Begin(header)])
                case pubsub.EndFull(subscriber, since, version):
                    transfer = self.transfers.pop(subscriber)
                    header = replace(transfer.begun, version=version)
                    self._send(subscriber, self._ending(header, since.number, transfer.sums, begin=False))
                case pubsub.Drop(subscriber, reason):
                    self._send(subscriber, [Bye(reason)])
                    dropped.append(subscriber)
        return dropped

    def stream(self, subscriber: int) -> list[int]:
        """Send one more chunk of a full transfer, or say that it was the last."""
        transfer = self.transfers.get(subscriber)
        if transfer is None:
            return []
        if not transfer.chunks:
            return self.perform(self.publisher.step(0, pubsub.Sent(subscriber)))
        message = _whole(self.memory, transfer.chunks.popleft())
        transfer.sums.append(part_sum(message.part))
        self._send(subscriber, [message])
        return []

    def _ending(self, header: Header, since: int, sums: list[int], begin: bool) -> list[StreamMessage]:
        pages = sorted(page for page, number in self.changed.items() if number > since)
        parts = [_whole(self.memory, chunk) for chunk in _chunks(pages)]
        recs = [RecordsMessage(part.encode()) for part in records_parts(self.records, (), complete=True)]
        all_sums = sums + [part_sum(part.part) for part in parts]
        header = replace(header, pages=len(pages), parts=len(all_sums))
        total = combined_sum(all_sums + [part_sum(part.part) for part in recs])
        return [*([Begin(header)] if begin else []), *parts, *recs, End(header, len(recs), total)]

    def _send(self, subscriber: int, messages: list[StreamMessage]) -> None:
        wire = self.wires.get(subscriber)
        if wire is None:
            return
        if self.saboteur is not None:
            messages = self.saboteur(messages)
        for message in messages:
            wire.send_down(message)


class Simulation:
    """Primary, mirrors and the wires between them."""

    def __init__(self, seed: int = 0, make: Callable[..., session.MirrorSession] = session.MirrorSession) -> None:
        self.random = random.Random(seed)
        self.published: dict[Version, State] = {}
        self.primary = Primary(1, NOTHING, ({}, {}), self.published)
        self.mirrors = [Mirror(name, make) for name in "ab"]
        self.links: list[int | None] = [None, None]
        self.primary_counters = Counters()
        self.now = 0
        self.lossy: set[int | None] = set()
        self._numbers = 0

    # -- what can happen

    def capture(self) -> None:
        pages = self.random.sample(range(PLACES), self.random.randrange(PLACES // 2))
        changes = {page: self.random.randbytes(64) + bytes(PAGE_WORDS * 8 - 64) for page in pages}
        records = dict(self.primary.records)
        for _ in range(self.random.randrange(3)):
            key = f"fd/{self.random.randrange(4)}"
            if self.random.random() < 0.3:
                records.pop(key, None)
            else:
                records[key] = self.random.randbytes(4)
        self._dropped(self.primary.capture(changes, records, self.now))

    def connect(self, index: int) -> None:
        if self.links[index] is not None:
            return
        mirror = self.mirrors[index]
        self._numbers += 1
        token = self.primary.token
        wire = Wire(
            Outbox(STREAM, token),
            Outbox(STREAM, max(token, mirror.session.token)),
            Inbox(STREAM, max(token, mirror.session.token), mirror.session.counters),
            Inbox(STREAM, token, self.primary_counters),
        )
        self.links[index] = self._numbers
        self.primary.wires[self._numbers] = wire
        self._tell(index, session.Connected(token))

    def cut(self, index: int) -> None:
        number = self.links[index]
        if number is None:
            return
        self.links[index] = None
        del self.primary.wires[number]
        self.primary.transfers.pop(number, None)
        self.primary.perform(self.primary.publisher.step(self.now, pubsub.Gone(number)))
        self._tell(index, session.Disconnected())

    def deliver_down(self, index: int) -> None:
        wire = self._wire(index)
        if wire is None or not wire.down:
            return
        try:
            messages = wire.down_in.feed(wire.down.popleft())
        except (FrameError, StaleUpdate):
            self.cut(index)
            return
        for message in messages:
            self._tell(index, message)

    def deliver_up(self, index: int) -> None:
        wire, number = self._wire(index), self.links[index]
        if wire is None or number is None or not wire.up:
            return
        try:
            messages = wire.up_in.feed(wire.up.popleft())
        except (FrameError, StaleUpdate):
            self.cut(index)
            return
        for message in messages:
            self._dropped(self.primary.perform(self.primary.publisher.step(self.now, self._event(number, message))))

    def apply(self, index: int) -> None:
        event = self.mirrors[index].apply()
        if event is not None:
            self._tell(index, event)

    def stream(self, index: int) -> None:
        number = self.links[index]
        if number is not None:
            self._dropped(self.primary.stream(number))

    def promote(self) -> None:
        """Another primary, from any published state: mirrors may be behind it, at it, ahead of it, or elsewhere."""
        for index in range(len(self.mirrors)):
            self.cut(index)
        if self.published:
            start = self.random.choice(list(self.published))
            self.primary = Primary(self.primary.token + 1, start, self.published[start], self.published)

    def apply_failure(self, index: int) -> None:
        mirror = self.mirrors[index]
        if mirror.committed:
            header, _ = mirror.committed.popleft()
            self._tell(index, session.ApplyFailed(header.version, "no memory"))

    def stage_failure(self, index: int) -> None:
        self._tell(index, session.StageFailed("no memory", damaged=self.random.random() < 0.5))

    def fault_on_wire(self, index: int, kind: str, at: int | None = None) -> None:
        """Damage what is under way to the mirror (or from it) below the messages; any frame or that at `at`."""
        wire = self._wire(index)
        if wire is None:
            return
        frames = wire.up if kind.endswith("up") else wire.down
        if not frames:
            return
        at = self.random.randrange(len(frames)) if at is None else at
        if kind.startswith("corrupt"):
            damaged = bytearray(frames[at])
            damaged[self.random.randrange(len(damaged))] ^= 1 << self.random.randrange(8)
            frames[at] = bytes(damaged)
        elif kind.startswith("replay"):
            frames.insert(at, frames[at])
        elif kind.startswith("lose"):
            del frames[at]
            self.lossy.add(self.links[index])
        elif kind.startswith("reorder"):
            frames.rotate(1)
        elif kind.startswith("stale"):
            frames[at] = b"".join(Outbox(STREAM, max(0, self.primary.token - 1)).seal(Bye("old")))

    # -- what must hold

    def check(self) -> None:
        """Raise Violation unless every mirror holds exactly a published state, and memory is bounded."""
        for mirror in self.mirrors:
            if mirror.at != mirror.session.applied:
                raise Violation(f"{mirror.name} is at {mirror.at}, its session says {mirror.session.applied}")
            if mirror.at != NOTHING:
                state = self.published.get(mirror.at)
                known = {page: row for page, row in mirror.memory.items() if any(row)}
                if state is None or state[1] != mirror.records:
                    raise Violation(f"{mirror.name} at {mirror.at} has records that were not published with it")
                if {page: row for page, row in state[0].items() if any(row)} != known:
                    raise Violation(f"{mirror.name} at {mirror.at} has memory that was not published with it")
            if len(mirror.committed) > pubsub.CREDIT + session.BACKLOG:
                raise Violation(f"{mirror.name} has {len(mirror.committed)} checkpoints waiting")
        for subscriber in self.primary.publisher.subscribers:
            if len(subscriber.unacked) > pubsub.CREDIT:
                raise Violation(f"{len(subscriber.unacked)} checkpoints are under way to {subscriber.instance}")

    def settle(self) -> None:
        """No more faults: deliver and apply everything, one more checkpoint at the end, until nothing moves. Time
        passes meanwhile: whoever never got what it was sent is dropped for its silence."""
        self.primary.saboteur = None
        for index, number in enumerate(self.links):
            if number in self.lossy:
                # No stream of bytes loses its last ones in silence: it breaks.
                self.cut(index)
        for late_ns in (0, pubsub.STALL_NS + 1, 0):
            self.now += late_ns
            self.capture()
            for index in range(len(self.mirrors)):
                self.settle_one(index)
                self.check()

    def settle_one(self, index: int) -> None:
        """Deliver and apply all that is under way to and from one mirror; connect it again when it must be."""
        for _ in range(10_000):
            self.connect(index)
            before = self._numbers
            wire, number = self._wire(index), self.links[index]
            if wire is None or number is None:
                continue
            if wire.down:
                self.deliver_down(index)
            elif wire.up:
                self.deliver_up(index)
            elif self.mirrors[index].committed:
                self.apply(index)
            elif number in self.primary.transfers:
                self.stream(index)
            elif before == self._numbers:
                return
        raise Violation("the stream does not come to rest")

    # -- plumbing

    def _wire(self, index: int) -> Wire | None:
        number = self.links[index]
        return None if number is None else self.primary.wires.get(number)

    def _tell(self, index: int, event: session.SessionEvent) -> None:
        mirror = self.mirrors[index]
        if mirror.perform(mirror.session.step(self.now, event), self._wire(index)):
            self.cut(index)

    def _event(self, number: int, message: StreamMessage) -> pubsub.PublisherEvent:
        wire = self.primary.wires[number]
        match message:
            case Subscribe(program, instance, incarnation, holds):
                return pubsub.Subscribed(number, program, instance, incarnation, holds, wire.up_in.token)
            case Ack(version):
                return pubsub.Acked(number, version)
            case Refuse(holds, reason):
                return pubsub.Refused(number, holds, reason)
            case _:
                return pubsub.Gone(number)

    def _dropped(self, numbers: list[int]) -> None:
        for number in numbers:
            if number in self.links:
                # The Bye is on its way; what is not delivered before the cut is lost.
                self.cut(self.links.index(number))
