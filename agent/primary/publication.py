"""Performs what the publisher decides: makes deltas, unions and full transfers and hands them over for sending.

Lives in the tracer thread, beside the image that it reads: a union must be made before the next checkpoint goes into
the image.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.errors import CaptureError
from agent.primary.encoding import Encoded, Encoder, FullTransfer
from agent.primary.sample_stream import SampleStream
from transport.checkpoint import Version
from transport.messages import StreamMessage
from transport.pubsub import (
    Captured,
    Drop,
    EndFull,
    Gone,
    Publisher,
    PublisherEffect,
    PublisherEvent,
    SendDelta,
    SendFull,
    SendUnion,
    Sent,
)

_DATED_MAX = 1024
_CHUNKS_S = 0.01
"""So long chunks of a full transfer are made before the program is looked after again."""


@dataclass(frozen=True, slots=True)
class Dated:
    """A checkpoint: when it was captured (CLOCK_REALTIME), and the bytes of all deltas up to it."""

    version: Version
    captured_ns: int
    bytes: int


class Outlet(Protocol):
    """Where messages to subscribers go; called in the tracer thread, must return at once."""

    def deliver(self, subscriber: int, messages: Sequence[StreamMessage], *, more: bool) -> None:
        """Send these, in order. `more`: ask for the next chunk of the full transfer when they are with the kernel."""

    def drop(self, subscriber: int, reason: str) -> None:
        """Say goodbye and close."""


class Publication:
    """The stream of one primary. bytes_encoded: of all deltas so far. dated: the newest checkpoints, for the lag."""

    def __init__(self, encoder: Encoder, remembered: Sequence[Version], outlet: Outlet) -> None:
        self.encoder = encoder
        self.publisher = Publisher(encoder.program, encoder.token, remembered)
        self.samples = SampleStream(self.publisher, outlet)
        self.bytes_encoded = 0
        self.dated: deque[Dated] = deque(maxlen=_DATED_MAX)
        self._outlet = outlet
        self._transfers: dict[int, FullTransfer] = {}
        self._latest: Encoded | None = None

    @property
    def followers(self) -> int:
        """How many subscribers wait for checkpoints. One that gets a full transfer does not: the image stands still for
        it, if it is the only one."""
        return sum(1 for subscriber in self.publisher.subscribers if subscriber.state != "full")

    def captured(self, encoded: Encoded) -> None:
        """Publish a checkpoint that has just gone into the image."""
        self._latest = encoded
        self.bytes_encoded += encoded.bytes
        self.dated.append(Dated(encoded.header.version, encoded.header.captured_ns, self.bytes_encoded))
        self.event(Captured(encoded.header.version, encoded.header.base))

    def event(self, event: PublisherEvent) -> None:
        """Take in what a subscriber did."""
        for effect in self.publisher.step(time.monotonic_ns(), event):
            self._perform(effect)
        if isinstance(event, Gone):
            self.samples.gone(event.subscriber)
        live = {subscriber.subscriber for subscriber in self.publisher.subscribers}
        for gone in self._transfers.keys() - live:
            del self._transfers[gone]
        if not self._transfers:
            self.encoder.forget_chunks()

    def more(self, subscriber: int) -> None:
        """Go on with a full transfer."""
        transfer = self._transfers.get(subscriber)
        if transfer is None:
            return
        until_s = time.monotonic() + _CHUNKS_S
        chunks: list[StreamMessage] = []
        while (chunk := transfer.next_chunk()) is not None:
            chunks.append(chunk)
            if time.monotonic() > until_s:
                break
        if chunks:
            self._outlet.deliver(subscriber, chunks, more=True)
        else:
            self.event(Sent(subscriber))

    def transfers(self) -> dict[int, tuple[int, int]]:
        """Subscriber -> (pages sent, pages in all) of the full transfers under way."""
        return {subscriber: (one.sent, one.pages) for subscriber, one in self._transfers.items()}

    def _perform(self, effect: PublisherEffect) -> None:
        latest = self._latest
        match effect:
            case SendDelta(subscribers, version):
                if latest is None or latest.header.version != version:
                    raise CaptureError(f"the delta that leads to {version} is no longer there")
                messages = latest.messages()
                for subscriber in subscribers:
                    self._outlet.deliver(subscriber, messages, more=False)
            case SendUnion(subscriber, base, _):
                union = self.encoder.union(base, self._captured_ns(), final=self._final())
                self._outlet.deliver(subscriber, union.messages(), more=False)
            case SendFull(subscriber, _):
                transfer = self.encoder.full(self._captured_ns())
                self._transfers[subscriber] = transfer
                self._outlet.deliver(subscriber, transfer.begin(), more=True)
            case EndFull(subscriber, _, _):
                transfer = self._transfers.pop(subscriber)
                self._outlet.deliver(subscriber, transfer.end(self._captured_ns(), final=self._final()), more=False)
            case Drop(subscriber, reason):
                self._outlet.drop(subscriber, reason)

    def _captured_ns(self) -> int:
        return self._latest.header.captured_ns if self._latest is not None else time.time_ns()

    def _final(self) -> bool:
        return self._latest is not None and self._latest.header.final
