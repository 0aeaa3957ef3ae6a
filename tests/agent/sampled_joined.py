"""Primary and mirror joined as in `joined`, with two structures that are read between checkpoints.

Memory counts here byte by byte: a structure begins and ends within pages. `check` is the checker of I7 with its one
exception: the shadow is a published checkpoint, always, and what a takeover would find differs from it in the bytes of
independent structures alone, which are of one later reading, taken before the next checkpoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from agent.kernel.vm import Contents
from agent.memory.image import Image
from agent.memory.page_ranges import PAGE_BYTES, PAGE_WORDS, Pages
from agent.mirror.samples_held import SamplesHeld
from agent.primary.encoding import Part
from agent.primary.samples import Reading
from agent.structures.blocks import Coverage, count_blocks
from agent.structures.update import Original
from tests.agent.joined import Joined, Program
from transport.checkpoint import NOTHING, Records, Version
from transport.delta import PagePartEncoder
from transport.messages import Place, Sample, SampleHeld

MEMORY_PAGES: Final = 8
FIRST_PAGE: Final = 1
BASE: Final = FIRST_PAGE * PAGE_BYTES
SIZE: Final = MEMORY_PAGES * PAGE_BYTES

INDEPENDENT: Final = Place("g_counts", BASE + PAGE_BYTES + 100, 2 * PAGE_BYTES + 50, ((0, 4000), (4100, 8242)))
SHOWN: Final = Place("g_queue", BASE + 5 * PAGE_BYTES, 64, ((0, 64),))
PLACES: Final = (INDEPENDENT, SHOWN)


def bytes_of(place: Place) -> list[tuple[int, int]]:
    """Where the carried bytes of a structure are in the memory: first and end."""
    return [(place.address - BASE + first, place.address - BASE + end) for first, end in place.extents]


@dataclass
class Memory(Program):
    """The program's memory, of which whole pages travel."""

    content: bytearray = field(default_factory=lambda: bytearray(SIZE))

    def store(self, at: int, value: bytes) -> None:
        """The program writes bytes."""
        self.content[at : at + len(value)] = value
        self.dirty.update(range(at // PAGE_BYTES, (at + len(value) - 1) // PAGE_BYTES + 1))

    def parts(self, image: Image, number: int) -> Iterable[Part]:
        """See `encoding.CapturedMemory`."""
        rows = sorted(self.dirty)
        self.dirty.clear()
        if not rows:
            return
        pages = np.array(rows, np.uint64) + np.uint64(FIRST_PAGE)
        slots = image.slots(pages)
        fresh = ~image.known[slots]
        base = np.zeros((len(pages), PAGE_WORDS), np.uint64)
        image.take(slots, base)
        base[fresh] = 0
        new = np.frombuffer(bytes(self.content), np.uint64).reshape(MEMORY_PAGES, -1)[rows].copy()
        # As in `agent.context.memory`: what is as it was does not travel.
        kept = (new != base).any(axis=1) | fresh
        if kept.any():
            image.put(slots[kept], new[kept], number)
            yield pages[kept], base[kept], new[kept], fresh[kept]


class ByteDouble:
    """A shadow that is an array."""

    pid = 0

    def __init__(self, content: bytes = bytes(SIZE)) -> None:
        self.rows = np.frombuffer(content, np.uint64).reshape(MEMORY_PAGES, -1).copy()

    def adapt(self, records: Records) -> None:
        """See `follower.Double`."""

    def prepare(self, records: Records) -> None:
        """See `follower.Double`."""

    def destroy(self) -> None:
        """See `follower.Double`."""

    def read_pages(self, pages: Pages, out: Contents) -> None:
        """See `follower.Double`."""
        out[: len(pages)] = self.rows[(pages - np.uint64(FIRST_PAGE)).astype(np.int64)]

    def write_pages(self, pages: Pages, contents: Contents) -> None:
        """See `follower.Double`."""
        self.rows[(pages - np.uint64(FIRST_PAGE)).astype(np.int64)] = contents


class SampledJoined(Joined):
    """See the head of this file. samples: each reading's bytes of its structure, by number; taken: what it followed."""

    def __init__(self) -> None:
        super().__init__()
        self.program: Memory = Memory()
        self.follower.samples = SamplesHeld([INDEPENDENT.structure])
        self.contents: dict[Version, bytes] = {}
        self.samples: dict[int, tuple[str, Version, bytes]] = {}
        self.byte_doubles: list[ByteDouble] = []
        self._encoder = PagePartEncoder()
        self._originals = {one.structure: Original(one.structure, one.size, self._encoder, token=1) for one in PLACES}
        self._number = 0
        # The first checkpoint has all of the memory.
        self.program.store(0, bytes(SIZE))

    def make_double(self, records: Records) -> ByteDouble:  # type: ignore[override]
        """A blank shadow."""
        self.byte_doubles.append(ByteDouble())
        return self.byte_doubles[-1]

    def checkpoint(self, *, final: bool = False) -> Version:
        """The primary takes one and publishes it."""
        content = bytes(self.program.content)
        encoded = self.encoder.delta(self.program, self.program.records, captured_ns=1, final=final)
        self.contents[encoded.header.version] = content
        self.publication.captured(encoded)
        return encoded.header.version

    def sample(self, place: Place) -> None:
        """The primary reads one structure and publishes that, if there is a checkpoint that it can follow."""
        if not self.contents:
            return
        self._number += 1
        start = place.address - BASE
        content = bytes(self.program.content[start : start + place.size])
        raw = np.zeros(count_blocks(place.size) * PAGE_BYTES, np.uint8)
        raw[: place.size] = np.frombuffer(content, np.uint8)
        rows = raw.view(np.uint64).reshape(-1, PAGE_WORDS)
        coverage = Coverage(np.array(place.extents, np.int64).reshape(-1, 2), place.size)
        coverage.clear(coverage.all, rows)
        original = self._originals[place.structure]
        update = original.advance(coverage.all, rows)
        follows = self.encoder.version
        self.samples[self._number] = place.structure, follows, bytes(self.program.content)
        self.publication.samples.publish([Reading(place, original, update, follows, self._number, self._number)])

    def to_primary(self) -> bool:
        """One message travels to the primary."""
        if self.inbound and isinstance(self.inbound[0], SampleHeld):
            answer = self.inbound.popleft()
            assert isinstance(answer, SampleHeld)
            self.publication.samples.held(self.subscriber, answer)
            return True
        return super().to_primary()

    # What no link does, and what a mirror must bear all the same: to samples alone, in their order on the way.

    def lose(self) -> None:
        """The next one is lost."""
        self._replace_next(lambda message: [])

    def repeat(self) -> None:
        """The next one comes twice."""
        self._replace_next(lambda message: [message, message])

    def damage(self) -> None:
        """The next one has another bit in its data."""

        def damaged(message: Place | Sample) -> list[Place | Sample]:
            if isinstance(message, Place) or not message.data:
                return [message]
            middle = len(message.data) // 2
            data = bytearray(message.data)
            data[middle] ^= 1
            return [replace(message, data=bytes(data))]

        self._replace_next(damaged)

    def swap(self) -> None:
        """The next two change places."""
        at = [row for row, (message, _) in enumerate(self.outbound) if isinstance(message, Sample)][:2]
        if len(at) == 2 and at[1] == at[0] + 1:
            listed = list(self.outbound)
            listed[at[0]], listed[at[1]] = listed[at[1]], listed[at[0]]
            self.outbound = deque(listed)

    def _replace_next(self, change: object) -> None:
        for row, (message, more) in enumerate(self.outbound):
            if isinstance(message, Place | Sample):
                listed = list(self.outbound)
                listed[row : row + 1] = [(one, more) for one in change(message)]  # type: ignore[operator]
                self.outbound = deque(listed)
                return

    def found_by_a_takeover(self) -> bytes:
        """The memory that would go on, if the mirror took over now."""
        double = self.follower.double
        assert isinstance(double, ByteDouble)
        other = ByteDouble(double.rows.tobytes())
        self.follower.samples.settle(other, self.follower.version)
        return other.rows.tobytes()

    def check(self) -> None:
        """See the head of this file."""
        held = self.follower.version
        if held == NOTHING:
            assert not self.follower.samples.newest(held)
            return
        double = self.follower.double
        assert isinstance(double, ByteDouble)
        published = self.contents[held]
        assert double.rows.tobytes() == published, "the shadow is no checkpoint"
        expected = bytearray(published)
        numbers = [
            number
            for number, (name, follows, content) in self.samples.items()
            if name == INDEPENDENT.structure and follows == held
        ]
        found = self.found_by_a_takeover()
        possible = [published]
        for number in numbers:
            expected[:] = published
            for first, end in bytes_of(INDEPENDENT):
                expected[first:end] = self.samples[number][2][first:end]
            possible.append(bytes(expected))
        assert found in possible, "a takeover would find what never was"
