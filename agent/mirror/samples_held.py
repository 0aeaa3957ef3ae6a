"""Named structures that a mirror holds newer than its checkpoint: beside the shadow, which stays the checkpoint.

So the next checkpoint finds the base that it builds on, whatever came in between, and what is held here ends with it. A
takeover writes what follows the checkpoint that it goes on from into the shadow, as its first step, and only of those
structures that are declared independent.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.kernel.vm import Contents
from agent.memory.page_buffer import PageBuffer
from agent.memory.page_ranges import PAGE_BYTES, PAGE_SHIFT, Pages
from agent.structures.sample import HeldSample
from agent.structures.update import Copy, Update
from transport.checkpoint import NOTHING, Version
from transport.delta import PagePartDecoder
from transport.errors import CorruptUpdate
from transport.messages import EXTENTS_MAX, SAMPLED_BYTES_MAX, Place, Sample

_SPACE_BYTES: Final = 1 << 47
_STRUCTURES_MAX: Final = 64


class Shadow(Protocol):
    """See `follower.Double`."""

    def read_pages(self, pages: Pages, out: Contents) -> object: ...

    def write_pages(self, pages: Pages, contents: Contents) -> object: ...


@dataclass(slots=True)
class _Held:
    """One structure. counts: all bits of each byte that is carried. follows: NOTHING before the first sample.

    before, change: room for a takeover, which would lose milliseconds by touching memory for the first time.
    """

    place: Place
    counts: NDArray[np.uint8]
    copy: Copy
    before: Contents
    change: Contents
    follows: Version = NOTHING
    number: int = 0
    captured_ns: int = 0


class SamplesHeld:
    """All structures of one mirror. In the tracer thread."""

    def __init__(self, independent: Collection[str] = ()) -> None:
        """independent: the names of those that a takeover goes on from."""
        self._independent = frozenset(independent)
        self._all: dict[str, _Held] = {}
        self._decoder: PagePartDecoder | None = None

    def clear(self) -> None:
        """The shadow is begun anew, and so are its structures."""
        self._all.clear()

    def place(self, place: Place) -> None:
        """A structure lies there; a whole sample follows. Raises CorruptUpdate for what can't be."""
        is_sound = 0 < place.size <= SAMPLED_BYTES_MAX and 0 < place.address <= _SPACE_BYTES - place.size
        is_sound = is_sound and (place.structure in self._all or len(self._all) < _STRUCTURES_MAX)
        edges = (0, *(edge for extent in place.extents for edge in extent), place.size)
        if not is_sound or len(place.extents) > EXTENTS_MAX or any(one > next_ for one, next_ in pairwise(edges)):
            raise CorruptUpdate(f"{place.structure} can't lie at {place.address:#x} with {place.size} bytes")
        counts = np.zeros(place.size, np.uint8)
        for first, end in place.extents:
            counts[first:end] = 0xFF
        self._decoder = self._decoder or PagePartDecoder()
        copy = Copy(place.structure, place.size, self._decoder)
        pages = len(_pages_of(place))
        before, change = PageBuffer(pages, pages).rows, PageBuffer(pages, pages).rows
        self._all[place.structure] = _Held(place, counts, copy, before, change)

    def take(self, sample: Sample) -> bool:
        """Keep a sample; whether it is held, or a newer one. Not: it builds on what is not held.

        Raises CorruptUpdate and StaleUpdate; what was held before is held then.
        """
        held = self._all.get(sample.structure)
        if held is None:
            return False
        if sample.number <= held.number:
            return True
        if min(sample.version, sample.base_version) < 0:
            raise CorruptUpdate(f"version {sample.version} of {sample.structure} can't be")
        copy = held.copy
        if sample.base_version != sample.version or sample.data:
            copy.apply(
                Update(
                    sample.structure,
                    sample.follows.token,
                    sample.base_version,
                    sample.base,
                    sample.version,
                    sample.state,
                    sample.sum,
                    sample.data,
                )
            )
        if (copy.version, copy.state) != (sample.version, sample.state):
            return False
        held.follows, held.number, held.captured_ns = sample.follows, sample.number, sample.captured_ns
        return True

    def newest(self, version: Version) -> dict[str, HeldSample]:
        """The structures that are newer than the checkpoint `version`, which is what the shadow holds."""
        return {
            name: HeldSample(name, held.copy.version, held.captured_ns, held.place.size, held.copy.rows)
            for name, held in self._all.items()
            if held.follows == version != NOTHING
        }

    def settle(self, shadow: Shadow, version: Version) -> list[HeldSample]:
        """Write those that are independent and newer than the checkpoint `version` into the shadow, which holds it;
        gives them. Raises as the shadow does, and it is worth nothing then."""
        written = [one for name, one in self.newest(version).items() if name in self._independent]
        for one in written:
            self._write(shadow, self._all[one.structure])
        return written

    def _write(self, shadow: Shadow, held: _Held) -> None:
        place, before, change = held.place, held.before, held.change
        pages = _pages_of(place)
        shadow.read_pages(pages, before)
        change[:] = 0
        own = slice(place.address % PAGE_BYTES, place.address % PAGE_BYTES + place.size)
        here = change.reshape(-1).view(np.uint8)[own]
        np.bitwise_xor(before.reshape(-1).view(np.uint8)[own], _bytes_of(held.copy)[: place.size], out=here)
        np.bitwise_and(here, held.counts, out=here)
        changed = np.flatnonzero(np.bitwise_or.reduce(change, axis=1))
        if len(changed):
            shadow.write_pages(pages[changed], before[changed] ^ change[changed])


def _pages_of(place: Place) -> Pages:
    return np.arange(place.address >> PAGE_SHIFT, -(-(place.address + place.size) >> PAGE_SHIFT), dtype=np.uint64)


def _bytes_of(copy: Copy) -> NDArray[np.uint8]:
    return copy.rows.reshape(-1).view(np.uint8)
