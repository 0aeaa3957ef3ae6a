"""What is to be written to the agent, in order; places may be taken for what is not ready yet.

Any thread adds (one at a time), one thread takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from kagemusha.structures.frames import Message, encode


class Place:
    """A place in the order, for frames that come later. Nothing behind it is written before it is filled."""

    def __init__(self, frames: Iterable[bytes] | None = None) -> None:
        self.frames: Iterator[bytes] | None = None if frames is None else iter(frames)

    def fill(self, messages: Iterable[Message]) -> None:
        """Put messages there; they are encoded one by one as they are written."""
        self.frames = map(encode, messages)


class Outgoing:
    """See the head of this file."""

    def __init__(self) -> None:
        self._places: deque[Place] = deque()
        self._rest = memoryview(b"")

    def __bool__(self) -> bool:
        return bool(self._rest or self._places)

    @property
    def is_ready(self) -> bool:
        """Whether anything can be written now."""
        return bool(self._rest) or bool(self._places and self._places[0].frames is not None)

    def add(self, message: Message) -> None:
        """Add one message."""
        self._places.append(Place((encode(message),)))

    def reserve(self) -> Place:
        """Take a place for what comes later."""
        place = Place()
        self._places.append(place)
        return place

    def clear(self) -> None:
        """Forget everything; places that were taken lead nowhere."""
        self._places.clear()
        self._rest = memoryview(b"")

    def end_with(self, message: Message) -> None:
        """Forget everything but the frame that is being written; this message comes after it."""
        self._places.clear()
        self.add(message)

    def first(self) -> memoryview:
        """Return what is to be written next, at most one frame; empty: nothing is ready."""
        while not self._rest and self._places:
            place = self._places[0]
            if place.frames is None:
                break
            frame = next(place.frames, None)
            if frame is not None:
                self._rest = memoryview(frame)
            elif self._places and self._places[0] is place:
                self._places.popleft()
        return self._rest

    def written(self, count: int) -> None:
        """So many bytes of the first have been written."""
        self._rest = self._rest[count:]
