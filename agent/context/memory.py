"""Capture of a program's memory: most of it while the program runs, the rest while it stands still for a moment.

    attach()        once, at a stop: tracking begins
    fill()          once: all of the memory, while the program runs
    precopy()       what was written since, while the program runs; any number of times
    ask_scout()     at a stop, if there is a scout: it begins with what `copy_stopped` would do
    copy_stopped()  at a stop: what was written since then, so that all together is the memory of that moment
    parts()         after the stop: what of it really differs from the image, which is brought up to date

A page copied twice counts as it was last. What can't be read while the program runs waits for the stop. An abandoned
checkpoint loses nothing: what was copied counts as changed again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from agent.context.layout import Area, Map, Unmap, difference
from agent.errors import CaptureError, CheckpointAbandoned, Unsupported
from agent.kernel.pagemap import GUARD, Pagemap
from agent.kernel.userfaultfd import Userfaultfd
from agent.kernel.vm import Contents, ProcessMemory
from agent.memory.image import Image
from agent.memory.page_buffer import PageBuffer
from agent.memory.page_ranges import (
    NO_PAGES,
    NO_RANGES,
    PAGE_SHIFT,
    PAGE_WORDS,
    Mask,
    Pages,
    Ranges,
    clip,
    collapse,
    count_pages,
    expand,
    inside,
    union,
)
from agent.memory.sighting import Sighting
from agent.memory.tracking import Dirty, DirtyTracker
from agent.scout.scout import Question, Scout

Part = tuple[Pages, Contents, Contents, Mask]
"""pages (ascending), base, new, fresh (base is zeros, whatever a mirror has there). Good until the next part."""

BLOCK_PAGES: Final = 64
"""Pages that are compared, stored and encoded at once: some copies of them fit into the second-level cache."""
_WORTH_SENDING: Final = 0.75
"""Pages that were written but are the same as before are left out only when there are many among the others: to travel
they cost next to nothing, to be sorted out they cost two copies of all others."""
_BUFFER_SHARE: Final = 4
"""Room for copies: for a program that writes to all of its memory all the time, at most so many times its image; only
as much as it ever needed is taken. Copies of later rounds come on top of those of earlier ones."""
_ZERO_ROW: Final = 0
_SHORT_BYTES: Final = 2 << 20
_PAGES_OF_SPACE: Final = 1 << 35
_LAYERS_MAX: Final = 8
_COPY_PAGES: Final = 4096
"""The deadline is looked at after so many pages: about 4 ms."""


@dataclass(slots=True)
class _Layer:
    """Pages copied at one time, in rows of the buffer from `row` on. Later layers count more. source: where they still
    are, in the first rows; None when they are in the buffer."""

    written: Ranges
    row: int
    dropped: Ranges
    failed: Pages = field(default_factory=lambda: NO_PAGES)
    source: Contents | None = None


class MemoryCapture:
    """Captures one program's memory into `image`. At most one checkpoint is under way at any time."""

    def __init__(self, pid: int, uffd: Userfaultfd, image: Image, scout: Scout | None = None) -> None:
        self.image = image
        self._scout = scout or Scout()
        self._scout.follow(pid)
        self.memory = ProcessMemory(pid)
        self._pagemap = Pagemap(pid)
        self.tracker = DirtyTracker(pid, uffd, self._pagemap, image, held=self._held)
        self._uffd = uffd
        self._buffer = PageBuffer(_BUFFER_SHARE * image.bytes_max // (PAGE_WORDS * 8) + 1)
        self._emitter = _Emitter(image)
        self._layers: list[_Layer] = []
        self._rows = 1
        self._committed: tuple[Area, ...] = ()
        self._outstanding: Captured | None = None
        self._begun = False

    def close(self) -> None:
        """Stop tracking and let go of the process."""
        self._scout.follow(0)
        self.tracker.close()
        self._uffd.close()
        self._pagemap.close()
        self.memory.close()

    def look_ahead(self) -> None:
        """While the program runs, take in what it has mapped, so that `attach` finds little that is new."""
        self.tracker.space.refresh()

    def attach(self) -> None:
        """Begin to track. The program must stand still: the stop in which its userfaultfd was made is a good one.

        Raises Unsupported when there is memory that can't be tracked.
        """
        self.tracker.register_all()
        self._committed = self.tracker.space.areas

    def fill(self, number: int, chunk_pages: int = BLOCK_PAGES) -> Iterator[Part]:
        """Bring all of the program's memory into the image while the program runs, in parts of at most `chunk_pages`.

        The result is of no single moment; a checkpoint must follow. Left early, the rest belongs to that checkpoint.
        """
        self._require_free()
        self._forget_others(number)
        chunk_pages = min(chunk_pages, BLOCK_PAGES)
        dirty = self.tracker.take_all()
        self.tracker.note_copies(dirty.all_written())
        pages = expand(dirty.all_written())
        done = 0
        work = PageBuffer(chunk_pages, chunk_pages).rows
        try:
            yield from self._blank(dirty, pages, number)
            while done < len(pages):
                chunk = pages[done : done + chunk_pages]
                failed = self.memory.read(collapse(chunk), work, held=False)
                if len(failed):
                    self.tracker.give_back(Dirty([collapse(failed)]))
                    kept = np.flatnonzero(~np.isin(chunk, failed))
                    chunk, work[: len(kept)] = chunk[kept], work[kept]
                done = min(done + chunk_pages, len(pages))
                part = self._emitter.emit(chunk, work, number)
                if part is not None:
                    yield part
        finally:
            if done < len(pages):
                self.tracker.give_back(Dirty([collapse(pages[done:])]))

    def _forget_others(self, number: int) -> None:
        """What an image already holds is of other memory, as after an exec: none of it is known any more."""
        if not self._begun:
            self._begun = True
            self.image.forget(0, _PAGES_OF_SPACE, number)

    def _blank(self, dirty: Dirty, pages: Pages, number: int) -> Iterator[Part]:
        """Pages that were known of other memory, and are absent in this one: a mirror may have them still."""
        stale = self.image.remembered(0, _PAGES_OF_SPACE << PAGE_SHIFT)
        stale = stale[inside(stale, dirty.all_dropped())]
        stale = stale[~np.isin(stale, pages, assume_unique=True)]
        for at in range(0, len(stale), BLOCK_PAGES):
            blank = stale[at : at + BLOCK_PAGES]
            part = self._emitter.emit_rows(blank, self._buffer.rows, np.zeros(len(blank), np.uint64), number)
            if part is not None:
                yield part

    def precopy(self) -> int:
        """Copy what was written since the last time, while the program runs; gives the number of pages.

        Raises CaptureError when the checkpoint before has not been taken away or abandoned.
        """
        self._require_free()
        if len(self._layers) >= _LAYERS_MAX:
            self.abandon()
        self.tracker.space.read_flags()
        dirty = self.tracker.scan_running()
        layer = self._copy(dirty, None, held=False)
        self.tracker.note_copies(layer.written)
        if len(layer.failed):
            self.tracker.give_back(Dirty([collapse(layer.failed)]))
        return count_pages(layer.written) - len(layer.failed)

    def ask_scout(self, connections: Sequence[bytes] = ()) -> None:
        """Have the scout look for what was written, and ask about `connections`, if there is one.

        The program must stand still until `copy_stopped` returns, or `abandon`.
        """
        self._scout.ask(Question(self.tracker.runs, self.tracker.private, connections))

    def dismiss_scout(self) -> None:
        """What it has seen may not be what is there now."""
        self._scout.forget_memory()

    def copy_stopped(self, deadline_s: float | None = None) -> Captured:
        """Copy what was written since the last time. The program must stand still until this returns.

        deadline_s: time.monotonic() at which to give up: CheckpointAbandoned; nothing is lost, `precopy` will copy it.
        Raises Unsupported for memory that can't be tracked or read.
        """
        self._require_free()
        sighting = self._scout.sighting()
        dirty = self.tracker.scan_stopped(sighting)
        layer = self._copy(dirty, deadline_s, held=True)
        copied = self._keep(dirty.copied, sighting)
        if len(layer.failed):
            self._judge(layer.failed)
        self._outstanding = Captured(self, self.tracker.space.areas, self.tracker.carried, (*copied, layer))
        return self._outstanding

    def abandon(self) -> None:
        """Give up the checkpoint under way, if any: all that was copied for it counts as changed again."""
        self._scout.forget_memory()
        for layer in self._layers:
            self.tracker.give_back(Dirty([layer.written], [layer.dropped]))
        self._clear()

    def _clear(self) -> None:
        self._layers, self._rows, self._outstanding = [], 1, None

    def _require_free(self) -> None:
        if self._outstanding is not None:
            raise CaptureError("the checkpoint before has not been encoded or abandoned yet")

    def _held(self, start: int, end: int) -> Pages:
        """The pages between two addresses that the image knows of, or that were copied for this checkpoint."""
        copied = (expand(clip(layer.written, start, end)) for layer in self._layers)
        return union((self.image.remembered(start, end), *copied))

    def _copy(self, dirty: Dirty, deadline_s: float | None, *, held: bool) -> _Layer:
        """Copy dirty memory into the buffer as one more layer; if that fails, all of it is given back."""
        written = dirty.all_written()
        layer = _Layer(written, self._rows, dirty.all_dropped())
        try:
            self._buffer.need(self._rows + count_pages(written))
            layer.failed = self._read(written, deadline_s, held=held)
        except BaseException:
            self.tracker.give_back(dirty)
            raise
        self._rows += count_pages(written)
        self._layers.append(layer)
        return layer

    def _keep(self, copied: Ranges, sighting: Sighting | None) -> tuple[_Layer, ...]:
        """What the scout has copied as a layer, which `_fetch` fills when the program runs again."""
        if sighting is None or not len(copied):
            return ()
        layer = _Layer(copied, self._rows, NO_RANGES, source=sighting.rows)
        try:
            self._buffer.need(self._rows + count_pages(copied))
        except BaseException:
            self.tracker.give_back(Dirty([copied]))
            raise
        self._rows += count_pages(copied)
        self._layers.append(layer)
        return (layer,)

    def _fetch(self, layers: Iterable[_Layer]) -> None:
        """Take over what the scout has copied: its rows are good until it is asked again."""
        for layer in layers:
            if layer.source is not None:
                pages = count_pages(layer.written)
                self._buffer.rows[layer.row : layer.row + pages] = layer.source[:pages]
                layer.source = None

    def _read(self, written: Ranges, deadline_s: float | None, *, held: bool) -> Pages:
        if deadline_s is None:
            return self.memory.read(written, self._buffer.rows[self._rows :], held=held)
        pages = count_pages(written)
        if pages <= _COPY_PAGES:
            slices = [written]
        else:
            numbers = expand(written)
            slices = [collapse(numbers[at : at + _COPY_PAGES]) for at in range(0, pages, _COPY_PAGES)]
        failed, row = [], self._rows
        for piece in slices:
            if time.monotonic() > deadline_s:
                raise CheckpointAbandoned(f"{pages} pages were not copied before the deadline")
            failed.append(self.memory.read(piece, self._buffer.rows[row:], held=held))
            row += count_pages(piece)
        return failed[0] if len(failed) == 1 else np.concatenate(failed)

    def _judge(self, failed: Pages) -> None:
        """Pages that can't be read at a stop: beyond the end of a file, or guard pages; anything else is refused."""
        areas = self.tracker.space.areas
        for start, end in collapse(failed).tolist():
            area = next((area for area in areas if area.start <= start < area.end), None)
            if area is not None and area.path.startswith("/secretmem"):
                self.abandon()
                raise Unsupported(f"secret memory (memfd_secret) at {start:#x} can't be read")
            if area is not None and area.inode:
                continue
            found = self._pagemap.populated(start, end)
            guards = found[(found[:, 2] & np.uint64(GUARD)) != 0]
            if count_pages(guards) < (end - start) >> PAGE_SHIFT:
                self.abandon()
                raise CaptureError(f"memory from {start:#x} to {end:#x} can't be read")


class Captured:
    """One checkpoint's memory, as copied; to be consumed by `parts`, or abandoned, before the next one is begun."""

    def __init__(
        self, capture: MemoryCapture, areas: tuple[Area, ...], carried: Ranges, last: tuple[_Layer, ...]
    ) -> None:
        self.areas = areas
        self._capture, self._carried, self._last = capture, carried, last

    @property
    def layout(self) -> bytes:
        """The layout record of the moment of the stop."""
        return self._capture.tracker.space.record(self.areas)

    def abandon(self) -> None:
        """Give this checkpoint up: all of it counts as changed again."""
        self._capture.abandon()

    def parts(self, image: Image, number: int) -> Iterator[Part]:
        """What differs from the image, in parts of at most BLOCK_PAGES, which also brings the image up to date.

        number: of this checkpoint. A part's pages ascend, and so do the parts. Pages whose mapping is gone or was made
        anew are forgotten first, as a mirror does by `difference`. Left early, the image no longer is what any mirror
        holds, except one that gets `changed_since` the checkpoint before.
        """
        capture = self._capture
        if capture._outstanding is not self:
            raise CaptureError("this checkpoint was consumed or abandoned already")
        capture._forget_others(number)
        for change in difference(capture._committed, self.areas) if capture._committed is not self.areas else ():
            if isinstance(change, Unmap):
                image.forget(change.start >> PAGE_SHIFT, change.end >> PAGE_SHIFT, number)
            elif isinstance(change, Map):
                image.forget(change.area.start >> PAGE_SHIFT, change.area.end >> PAGE_SHIFT, number)
        capture._fetch(self._last)
        for layer in self._last:
            capture.tracker.note_copies(layer.written)
        pages, rows = self._merged(image)
        emitter, done = capture._emitter, 0
        try:
            while done < len(pages):
                chunk = slice(done, done + BLOCK_PAGES)
                part = emitter.emit_rows(pages[chunk], capture._buffer.rows, rows[chunk], number)
                done = min(done + BLOCK_PAGES, len(pages))
                if part is not None:
                    yield part
        finally:
            capture._committed = self.areas
            capture._clear()
            if done < len(pages):
                capture.tracker.give_back(Dirty([collapse(pages[done:])]))

    def _merged(self, image: Image) -> tuple[Pages, Pages]:
        """All pages, ascending, each once, with the buffer row that holds its last content."""
        all_pages: list[Pages] = []
        all_rows: list[Pages] = []
        for layer in self._capture._layers:
            if len(layer.dropped):
                zeros = self._dropped(image, layer.dropped, all_pages)
                all_pages.append(zeros)
                all_rows.append(np.full(len(zeros), _ZERO_ROW, np.uint64))
            pages = expand(layer.written)
            rows = np.arange(layer.row, layer.row + len(pages), dtype=np.uint64)
            if len(layer.failed):
                read = ~np.isin(pages, layer.failed)
                pages, rows = pages[read], rows[read]
            all_pages.append(pages)
            all_rows.append(rows)
        pages, rows = np.concatenate(all_pages), np.concatenate(all_rows)
        order = np.argsort(pages, kind="stable")
        pages, rows = pages[order], rows[order]
        last = np.ones(len(pages), np.bool_)
        np.not_equal(pages[1:], pages[:-1], out=last[:-1])
        last &= inside(pages, self._carried)
        return pages[last], rows[last]

    def _dropped(self, image: Image, dropped: Ranges, earlier: list[Pages]) -> Pages:
        """The pages of which anything is known in ranges that read as zeros now."""
        short = (dropped[:, 1] - dropped[:, 0]) <= np.uint64(_SHORT_BYTES)
        pages = expand(dropped[short])
        known = [image.remembered(start, end) for start, end in dropped[~short].tolist()]
        return union((pages[image.remembers(pages)], *known, *(pages[inside(pages, dropped)] for pages in earlier)))


class _Emitter:
    """Compares copied pages with the image and stores what differs. Its arrays are used again for each part."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._base, self._new, self._other = (PageBuffer(BLOCK_PAGES, BLOCK_PAGES).rows for _ in range(3))
        self._unequal = np.zeros((BLOCK_PAGES, PAGE_WORDS), np.bool_)

    def emit_rows(self, pages: Pages, buffer: Contents, rows: Pages, number: int) -> Part | None:
        """Like `emit`, of pages whose contents lie in rows of a buffer; _ZERO_ROW stands for zeros."""
        count = len(pages)
        first = int(rows[0])
        # Most pages were copied one after the other and lie so.
        if int(rows[-1]) - first == count - 1 and first != _ZERO_ROW and (rows[1:] > rows[:-1]).all():
            return self.emit(pages, buffer[first : first + count], number)
        np.take(buffer, rows.astype(np.int64), axis=0, out=self._new[:count], mode="clip")
        zeroed = rows == _ZERO_ROW
        return self.emit(pages, self._new, number, zeroed if zeroed.any() else None)

    def emit(self, pages: Pages, new: Contents, number: int, zeroed: Mask | None = None) -> Part | None:
        """Store pages in the image and give what changed, or None. zeroed: pages whose new content is zeros.

        A page that became zeros goes as fresh: its XOR against a base of zeros is nothing at all.
        """
        count = len(pages)
        if not count:
            return None
        image = self._image
        base, new = self._base[:count], new[:count]
        slots = image.slots(pages)
        fresh: Mask = ~image.known[slots]
        if fresh.all():
            # Reading slots that were never stored to would only fill page tables.
            base[:] = 0
            image.put(slots, new, number)
            return pages, base, new, fresh
        image.take(slots, base)
        base[fresh] = 0
        changed = np.not_equal(base, new, out=self._unequal[:count]).any(axis=1)
        changed |= fresh
        if zeroed is not None:
            blank = changed & zeroed
            fresh |= blank
            base[blank] = 0
        kept = np.flatnonzero(changed)
        if not len(kept):
            return None
        if len(kept) < count * _WORTH_SENDING:
            pages, slots, fresh = pages[kept], slots[kept], fresh[kept]
            np.take(base, kept, axis=0, out=self._other[: len(kept)], mode="clip")
            base, self._base, self._other = self._other[: len(kept)], self._other, self._base
            np.take(new, kept, axis=0, out=self._other[: len(kept)], mode="clip")
            new = self._other[: len(kept)]
        image.put(slots, new, number)
        return pages, base, new, fresh
