"""Events as they happen, to any number of readers: a bounded memory, and server-sent events (HTML, 9.2) out of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Final

from cluster.admin.models import Event

REMEMBERED_MAX: Final = 1000
WAITING_MAX: Final = 256
"""Events that a reader may be behind; one that is further behind is sent away and may ask again."""


class ReaderTooSlow(Exception):
    """More events came than the reader took."""


class EventLog:
    """The newest events of this node."""

    def __init__(self) -> None:
        self._remembered: deque[Event] = deque(maxlen=REMEMBERED_MAX)
        self._readers: set[_Reader] = set()

    def note(self, event: Event) -> bool:
        """Tell everybody. Indices must rise; one that does not is old news, and is not told again: False."""
        if self._remembered and event.index <= self._remembered[-1].index:
            return False
        self._remembered.append(event)
        for reader in self._readers:
            reader.put(event)
        return True

    def remember(self, events: Iterable[Event]) -> None:
        """What was noted before a restart; ascending, and before anything else is noted."""
        self._remembered.extend(events)

    def newest(self, program: str, limit: int) -> tuple[Event, ...]:
        """The newest events that are remembered, ascending; of a program, "" for all."""
        found = [one for one in self._remembered if program in ("", one.program)]
        return tuple(found[-limit:])

    async def follow(self, after: int | None) -> AsyncIterator[Event]:
        """What is remembered after that index (None: nothing), then what comes. Raises ReaderTooSlow."""
        reader = _Reader()
        self._readers.add(reader)
        try:
            for event in [one for one in self._remembered if after is not None and one.index > after]:
                yield event
            while True:
                yield await reader.get()
        finally:
            self._readers.discard(reader)


class _Reader:
    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._news = asyncio.Event()
        self._lost = False

    def put(self, event: Event) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._lost = True
        else:
            self._waiting.append(event)
        self._news.set()

    async def get(self) -> Event:
        while not self._waiting:
            if self._lost:
                raise ReaderTooSlow
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


def sent_event(event: Event) -> bytes:
    """One server-sent event; its id is what a reader gives as Last-Event-ID when it comes again."""
    return f"id: {event.index}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()
