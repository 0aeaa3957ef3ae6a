"""Which sample of a structure each mirror gets, and how. In the tracer thread, beside `publication`.

A mirror that is in step gets each sample: what has changed since the one before, or only that nothing has. One that has
missed any gets a whole copy, and so does one that says that a sample did not fit. One that is behind with checkpoints
gets none: they would be of no use to it. What is not answered is bounded, so that a slow link holds up nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from agent.primary.samples import Reading
from agent.structures.update import Update
from transport.messages import Place, Sample, SampleHeld, StreamMessage
from transport.pubsub import Publisher

UNANSWERED_MAX: Final = 32
"""Samples of one structure on their way to one mirror; in bytes:"""
UNANSWERED_BYTES_MAX: Final = 8 << 20


class Outlet(Protocol):
    """See `publication.Outlet`."""

    def deliver(self, subscriber: int, messages: Sequence[StreamMessage], *, more: bool) -> None: ...


@dataclass(slots=True)
class _Told:
    """What one mirror was told of one structure. version: the newest; 0: nothing. whole: number of the sample that was
    a whole copy last. unanswered: numbers and bytes."""

    place: Place | None = None
    version: int = 0
    whole: int = 0
    unanswered: deque[tuple[int, int]] = field(default_factory=deque)

    @property
    def has_room(self) -> bool:
        return len(self.unanswered) < UNANSWERED_MAX and sum(size for _, size in self.unanswered) < UNANSWERED_BYTES_MAX


class SampleStream:
    """The samples of one primary to all of its mirrors."""

    def __init__(self, publisher: Publisher, outlet: Outlet) -> None:
        self._publisher = publisher
        self._outlet = outlet
        self._told: dict[int, dict[str, _Told]] = {}

    def publish(self, readings: Iterable[Reading]) -> None:
        """Send what was read just now."""
        listed = list(readings)
        for subscriber in self._publisher.subscribers:
            if subscriber.state != "following" or subscriber.resync or subscriber.sent != self._publisher.latest:
                continue
            told = self._told.setdefault(subscriber.subscriber, {})
            messages: list[StreamMessage] = []
            for reading in listed:
                messages += _messages(told.setdefault(reading.place.structure, _Told()), reading)
            if messages:
                self._outlet.deliver(subscriber.subscriber, messages, more=False)

    def held(self, subscriber: int, answer: SampleHeld) -> None:
        """A mirror has answered."""
        told = self._told.get(subscriber, {}).get(answer.structure)
        if told is None:
            return
        while told.unanswered and told.unanswered[0][0] <= answer.number:
            told.unanswered.popleft()
        # Those that were on their way before the whole copy may not have fitted either.
        if not answer.fits and answer.number >= told.whole:
            told.place, told.version = None, 0

    def gone(self, subscriber: int) -> None:
        """A mirror's connection has ended."""
        self._told.pop(subscriber, None)


def _messages(told: _Told, reading: Reading) -> list[StreamMessage]:
    """What brings a mirror to the reading; nothing while too much is on its way."""
    if not told.has_room:
        return []
    original, update = reading.original, reading.update
    follows_on = told.place is reading.place and told.version != 0
    if follows_on and told.version == original.version:
        sample = _sample(reading, None)
    elif follows_on and update is not None and told.version == update.base_version:
        sample = _sample(reading, update)
    else:
        sample = _sample(reading, original.whole())
        told.whole = reading.number
    place = [] if told.place is reading.place else [reading.place]
    told.place, told.version = reading.place, original.version
    told.unanswered.append((reading.number, len(sample.data)))
    return [*place, sample]


def _sample(reading: Reading, update: Update | None) -> Sample:
    """The message; without an update: nothing has changed."""
    original = reading.original
    base_version, base, total, data = original.version, original.state, original.state, b""
    if update is not None:
        base_version, base, total, data = update.base_version, update.base, update.sum, update.data
    return Sample(
        reading.place.structure,
        reading.follows,
        reading.number,
        reading.captured_ns,
        base_version,
        base,
        original.version,
        original.state,
        total,
        data,
    )
