"""Which checkpoint each subscriber gets next: a step machine without sockets, clock or bytes. Pure.

The primary captures at its own pace. A subscriber that is up to date and has credit gets each checkpoint as a delta,
encoded once for all of them. One without credit gets nothing and costs nothing; when it acknowledges, it gets one union
of what it missed: whole pages out of the image, which knows in which checkpoint each page last changed. One whose state
is unknown here gets a full transfer: the image in chunks while the program runs on, no deltas meanwhile, and at its end
one union of what changed since it began.

Memory: at most CREDIT encoded checkpoints for each subscriber are unacknowledged, deltas shared between all that are up
to date; unions and the chunks of a full transfer are made when they are sent, and never kept for later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from transport.checkpoint import NOTHING, Version

CREDIT: Final = 2
"""Unacknowledged checkpoints for each subscriber: one that travels while the one before is verified."""
REMEMBERED_VERSIONS: Final = 1024
"""Versions from which a mirror that comes back may go on (51 s at 20 checkpoints a second; 56 bytes each)."""
UNION_AFTER_REFUSALS_MAX: Final = 2
"""So many refusals in a row are answered by a union; after that only a full transfer can help."""
REFUSALS_MAX: Final = 6
"""So many refusals in a row end the connection."""
STALL_NS: Final = 30_000_000_000
"""A subscriber that acknowledges nothing for so long, although it could, is dropped."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Event: a mirror asks for the stream. token: the highest that it has seen. Others: `messages.Subscribe`."""

    subscriber: int
    program: str
    instance: str
    incarnation: int
    holds: Version
    token: int


@dataclass(frozen=True, slots=True)
class Acked:
    """Event: `version` and all before it are held by the subscriber, complete and verified."""

    subscriber: int
    version: Version


@dataclass(frozen=True, slots=True)
class Refused:
    """Event: the subscriber refused what is under way and goes on from `holds`."""

    subscriber: int
    holds: Version
    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Event: the connection to the subscriber ended."""

    subscriber: int


@dataclass(frozen=True, slots=True)
class Captured:
    """Event: a checkpoint was taken; it leads from `base` (the one before; NOTHING for the first) to `version`."""

    version: Version
    base: Version


@dataclass(frozen=True, slots=True)
class Sent:
    """Event: all pages of the image went out to the subscriber's full transfer."""

    subscriber: int


PublisherEvent = Subscribed | Acked | Refused | Gone | Captured | Sent


@dataclass(frozen=True, slots=True)
class SendDelta:
    """Effect: encode the delta that leads to `version` once and send it to all of these."""

    subscribers: tuple[int, ...]
    version: Version


@dataclass(frozen=True, slots=True)
class SendUnion:
    """Effect: send what changed since `base.number` as whole pages, and the records.

    `version` is the newest checkpoint: take the pages from the image before the next one is put into it.
    """

    subscriber: int
    base: Version
    version: Version


@dataclass(frozen=True, slots=True)
class SendFull:
    """Effect: begin a full transfer: `Begin(kind full, version)`, then all pages of the image at any pace, then `Sent`.

    Ends any full transfer to this subscriber that is under way. The image may change meanwhile.
    """

    subscriber: int
    version: Version


@dataclass(frozen=True, slots=True)
class EndFull:
    """Effect: end the full transfer: records and whole pages that changed since `since.number`, `End(version)`."""

    subscriber: int
    since: Version
    version: Version


@dataclass(frozen=True, slots=True)
class Drop:
    """Effect: say `Bye(reason)` to the subscriber and close its connection. It is forgotten already."""

    subscriber: int
    reason: str


PublisherEffect = SendDelta | SendUnion | SendFull | EndFull | Drop

State = Literal["waiting", "full", "following"]


@dataclass(slots=True)
class Subscriber:
    """What the publisher knows of one subscriber.

    state: waiting (there is no checkpoint yet), full (its full transfer is under way), following.
    acked: the newest version that it holds. sent: where it will be when all that was sent has arrived.
    unacked: versions sent but not acknowledged, with the times in nanoseconds. since: where its full transfer began.
    resync: it has refused something, and takes no delta before the union that answers.
    """

    subscriber: int
    instance: str
    incarnation: int
    state: State
    acked: Version
    sent: Version
    since: Version = NOTHING
    refusals: int = 0
    resync: bool = False
    unacked: deque[tuple[Version, int]] = field(default_factory=deque)


class Publisher:
    """Feeds the subscribers of one program's primary. Effects are to be performed in their order."""

    def __init__(self, program: str, token: int, remembered: Iterable[Version] = ()) -> None:
        """`token`: of this primary. `remembered`: versions before the first capture from which a mirror may go on.

        A primary that was promoted at version V gives (V,): who holds V gets a union after the first capture.
        """
        self._program = program
        self._token = token
        self._remembered = deque(remembered, maxlen=REMEMBERED_VERSIONS)
        self._latest = self._remembered[-1] if self._remembered else NOTHING
        self._subscribers: dict[int, Subscriber] = {}

    @property
    def latest(self) -> Version:
        return self._latest

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """For the status and for the gate; not to be changed."""
        return tuple(self._subscribers.values())

    def step(self, now_ns: int, event: PublisherEvent) -> list[PublisherEffect]:
        """Take in one event; return what is to be done, in this order. `now_ns`: any clock that does not go back.

        Raises ValueError for a capture that does not follow the one before: a mistake of the caller. Events of
        subscribers that are no longer known are ignored: they crossed with a Drop.
        """
        if isinstance(event, Captured):
            return self._captured(now_ns, event)
        if isinstance(event, Subscribed):
            return self._subscribed(now_ns, event)
        subscriber = self._subscribers.get(event.subscriber)
        if subscriber is None:
            return []
        if isinstance(event, Gone):
            del self._subscribers[event.subscriber]
            return []
        if isinstance(event, Acked):
            return self._acked(now_ns, subscriber, event.version)
        if isinstance(event, Refused):
            return self._refused(now_ns, subscriber, event)
        return self._image_sent(now_ns, subscriber)

    def _captured(self, now_ns: int, event: Captured) -> list[PublisherEffect]:
        if event.base != self._latest or event.version.number <= event.base.number:
            raise ValueError(f"checkpoint {event.version} on {event.base} does not follow {self._latest}")
        self._latest = event.version
        self._remembered.append(event.version)
        effects: list[PublisherEffect] = []
        current: list[int] = []
        for subscriber in tuple(self._subscribers.values()):
            if subscriber.unacked and now_ns - subscriber.unacked[0][1] > STALL_NS:
                effects.append(self._drop(subscriber, "acknowledges nothing"))
            elif subscriber.state == "waiting":
                effects += self._begin(now_ns, subscriber)
            elif subscriber.resync:
                effects += self._catch_up(now_ns, subscriber)
            elif subscriber.state == "following" and len(subscriber.unacked) < CREDIT:
                # With credit it has been sent everything up to the base: `_catch_up` runs whenever credit comes back.
                self._mark_sent(now_ns, subscriber)
                current.append(subscriber.subscriber)
        if current:
            effects.insert(0, SendDelta(tuple(current), event.version))
        return effects

    def _subscribed(self, now_ns: int, event: Subscribed) -> list[PublisherEffect]:
        effects: list[PublisherEffect] = []
        if event.program != self._program:
            return [Drop(event.subscriber, f"{self._program} is published here, not {event.program}")]
        if event.token > self._token:
            return [Drop(event.subscriber, f"superseded: token {event.token} has been seen, {self._token} is ours")]
        for other in tuple(self._subscribers.values()):
            if other.subscriber == event.subscriber or other.instance == event.instance:
                if other.subscriber == event.subscriber or other.incarnation > event.incarnation:
                    return [self._drop_new(event)]
                effects.append(self._drop(other, "replaced by a newer connection of the same instance"))
        subscriber = Subscriber(
            event.subscriber, event.instance, event.incarnation, "waiting", event.holds, event.holds
        )
        self._subscribers[event.subscriber] = subscriber
        return effects + self._begin(now_ns, subscriber)

    def _drop_new(self, event: Subscribed) -> Drop:
        if event.subscriber in self._subscribers:
            return self._drop(self._subscribers[event.subscriber], "subscribes twice")
        return Drop(event.subscriber, "a newer incarnation of the same instance is connected")

    def _begin(self, now_ns: int, subscriber: Subscriber) -> list[PublisherEffect]:
        """Start to serve a subscriber from what it says that it holds, once there is a checkpoint of this token.

        Until then a promoted primary's image is not there: neither a full transfer nor the first delta would be whole.
        """
        if self._latest.token != self._token:
            return []
        if subscriber.acked in self._remembered:
            subscriber.state, subscriber.sent = "following", subscriber.acked
            return self._catch_up(now_ns, subscriber)
        return self._full(subscriber)

    def _full(self, subscriber: Subscriber) -> list[PublisherEffect]:
        subscriber.acked = subscriber.sent = NOTHING
        subscriber.unacked.clear()
        subscriber.resync = False
        if self._latest.token != self._token:
            subscriber.state = "waiting"
            return []
        subscriber.state, subscriber.since = "full", self._latest
        return [SendFull(subscriber.subscriber, self._latest)]

    def _image_sent(self, now_ns: int, subscriber: Subscriber) -> list[PublisherEffect]:
        if subscriber.state != "full":
            return []
        subscriber.state = "following"
        self._mark_sent(now_ns, subscriber)
        return [EndFull(subscriber.subscriber, subscriber.since, self._latest)]

    def _catch_up(self, now_ns: int, subscriber: Subscriber) -> list[PublisherEffect]:
        """Send a subscriber with credit the union of what it missed, if it missed anything."""
        base = subscriber.sent
        if subscriber.state != "following" or base == self._latest or len(subscriber.unacked) >= CREDIT:
            return []
        self._mark_sent(now_ns, subscriber)
        return [SendUnion(subscriber.subscriber, base, self._latest)]

    def _mark_sent(self, now_ns: int, subscriber: Subscriber) -> None:
        subscriber.sent = self._latest
        subscriber.unacked.append((self._latest, now_ns))
        subscriber.resync = False

    def _acked(self, now_ns: int, subscriber: Subscriber, version: Version) -> list[PublisherEffect]:
        if version not in (sent for sent, _ in subscriber.unacked):
            return [self._drop(subscriber, f"acknowledges {version}, which was not sent or is acknowledged")]
        while subscriber.unacked.popleft()[0] != version:
            pass
        subscriber.acked = version
        subscriber.refusals = 0
        return self._catch_up(now_ns, subscriber)

    def _refused(self, now_ns: int, subscriber: Subscriber, event: Refused) -> list[PublisherEffect]:
        subscriber.refusals += 1
        if subscriber.refusals > REFUSALS_MAX:
            return [self._drop(subscriber, f"refused {subscriber.refusals} times in a row: {event.reason}")]
        held = {subscriber.acked, *(sent for sent, _ in subscriber.unacked)} - {NOTHING}
        if event.holds not in held or subscriber.refusals > UNION_AFTER_REFUSALS_MAX:
            return self._full(subscriber)
        subscriber.unacked.clear()
        subscriber.resync = True
        subscriber.state, subscriber.acked, subscriber.sent = "following", event.holds, event.holds
        return self._catch_up(now_ns, subscriber)

    def _drop(self, subscriber: Subscriber, reason: str) -> Drop:
        del self._subscribers[subscriber.subscriber]
        return Drop(subscriber.subscriber, reason)
