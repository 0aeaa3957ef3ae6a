"""Which pages a program has changed, without ever losing one.

Everything that can be is registered with a userfaultfd in asynchronous write-protect mode; the kernel marks writes. A
scan while the program runs takes the marks; the one at a stop only reads them, which is quicker, so that what it finds
is found once more by the next one. Four things could lose marks, and how they don't:

- a mapping is replaced by one that looks the same: it is not registered, so the scan at a stop (CHECK) fails with
  EPERM, and the whole run counts as written;
- a scan's result is not used, because the checkpoint is abandoned or a page can't be read just now: it is given back,
  and belongs to the next scan;
- a private copy of a file's page is given back, which leaves no mark: each stop looks whether the copies are still
  there;
- memory is written past the page tables (write(2) to a memfd, another process): such shared memory counts as written
  at every stop, and is compared later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from agent.context.layout import WRITE, Area, Map, area_at, difference
from agent.errors import KernelError, Unsupported
from agent.kernel.pagemap import Pagemap, RevertScan
from agent.kernel.userfaultfd import EBUSY, EPERM, Userfaultfd
from agent.memory.address_space import AddressSpace
from agent.memory.image import Image
from agent.memory.page_ranges import (
    LONG_BYTES,
    NO_PAGES,
    NO_RANGES,
    PAGE_BYTES,
    Pages,
    Ranges,
    clip,
    collapse,
    expand,
    inside,
    intersect,
    join,
    merge,
    outside,
    ranges,
    union,
)
from agent.memory.shared_objects import SharedObjects
from agent.memory.sighting import Sighting

LARGE_BYTES: Final = 256 << 20
"""From this size on a mapping is looked at only where it is populated: the fast scan fills page tables everywhere."""
RUN_BYTES: Final = 32 << 20
"""Mappings with gaps between them are scanned at once up to this size, which is what a lost scan costs."""
_WINDOW_GAP_BYTES: Final = 8 * (2 << 20)
_SPACE_START: Final = PAGE_BYTES
_SPACE_END: Final = 0x7FFF_FFFF_F000


@dataclass(slots=True)
class Dirty:
    """What changed. written: to be read. dropped: reads as zeros wherever `written` says nothing. copied: written, and
    read already by the scout, in the order of its rows."""

    written: list[Ranges] = field(default_factory=list)
    dropped: list[Ranges] = field(default_factory=list)
    copied: Ranges = field(default_factory=lambda: NO_RANGES)

    def add(self, other: Dirty) -> None:
        """Take in what changed elsewhere, or later; it is all to be read."""
        self.written += [*other.written, other.copied]
        self.dropped += other.dropped

    def all_written(self) -> Ranges:
        """The ranges to be read, ascending and apart."""
        joined = join(self.written)
        if len(joined) < 2 or (joined[1:, 0] > joined[:-1, 1]).all():
            return joined
        return merge(joined)

    def all_dropped(self) -> Ranges:
        """The ranges that read as zeros, ascending and apart."""
        return merge(join(self.dropped))


class DirtyTracker:
    """Follows one program's mappings and what it writes. All methods are called by one thread.

    held: the pages between two addresses whose content somebody already has (image, or copied for the checkpoint under
    way): what a private file mapping has given back must be read again for these.
    """

    def __init__(
        self,
        pid: int,
        uffd: Userfaultfd,
        pagemap: Pagemap,
        image: Image,
        *,
        held: Callable[[int, int], Pages] | None = None,
    ) -> None:
        self.space = AddressSpace(pid)
        self.carried: Ranges = NO_RANGES
        """All addresses whose content belongs to a checkpoint, ascending and apart."""
        self.lost_runs = 0
        """How often a stop found a run that had to be taken as written as a whole."""
        self._uffd, self._pagemap, self._image = uffd, pagemap, image
        self._held = held or image.remembered
        self._objects = SharedObjects(pid)
        self._untracked: set[tuple[int, int]] = set()
        self._given_back = Dirty()
        self._suspect = False
        self._replan = False
        self._runs: list[tuple[int, int]] = []
        self._runs_asked: Ranges = NO_RANGES
        self._large: list[Area] = []
        self._sweeps: list[tuple[int, int]] = []
        self._private_files: Ranges = NO_RANGES
        self._copies: Pages = NO_PAGES
        self._private_copies: Ranges = NO_RANGES
        self._reverts: RevertScan | None = None

    def close(self) -> None:
        self.space.close()
        self._objects.close()

    def give_back(self, dirty: Dirty) -> None:
        """What a scan found was not used: it belongs to the next scan."""
        self._given_back.add(dirty)

    def note_copies(self, written: Ranges) -> None:
        """These were copied: those of private file mappings are watched for turning back into the file's own pages.

        Other memory that is given back (MADV_DONTNEED) counts as written; a file's mapping keeps its mark.
        """
        copied = expand(intersect(written, self._private_files))
        if len(copied) and not np.isin(copied, self._copies, assume_unique=True).all():
            self._watch(union((self._copies, copied)))

    def _watch(self, copies: Pages) -> None:
        self._copies = copies[inside(copies, self._private_files)]
        self._private_copies = collapse(self._copies)
        self._reverts = RevertScan(self._pagemap, self._private_copies) if len(self._copies) else None

    def scan_running(self) -> Dirty:
        """What changed since the last scan, while the program runs; mappings that came since the last stop are missing.

        They are registered at a stop only: a mapping that is registered in part, because it was being changed, can't be
        moved by mremap(2) any more (EFAULT).
        """
        with self._collecting() as dirty:
            for start, end in self._sweeps:
                try:
                    self._sift(self._pagemap.take_written(start, end, check_registered=False), dirty)
                except KernelError:
                    self._suspect = True
            for area in self._large:
                self._scan_large(area, dirty, stopped=False)
        return dirty

    @property
    def runs(self) -> Ranges:
        """What `scan_stopped` scans range by range, unless the program has mapped or unmapped something."""
        return self._runs_asked

    @property
    def private(self) -> Ranges:
        """The private copies of files' pages that a stop has to look after; another object when they change."""
        return self._private_copies

    def scan_stopped(self, sighting: Sighting | None = None) -> Dirty:
        """All that changed since the last scan; the program must stand still, and after this nothing is missing.

        sighting: what was found in `runs` since the stop. Raises Unsupported when memory can't be tracked.
        """
        with self._collecting() as dirty:
            is_as_planned = self._follow(dirty, sighting.maps if sighting is not None else b"") and not self._suspect
            if dirty.written:
                # What was given back may be unmapped by now.
                dirty.written = [intersect(dirty.all_written(), self.carried)]
            if sighting is not None and is_as_planned:
                dirty.copied = sighting.copied
                self._sift(sighting.seen, dirty)
            else:
                sighting = None
                self._scan_runs(dirty)
            for area in self._large:
                self._scan_large(area, dirty, stopped=True)
            self._suspect = False
            if self._replan:
                sighting = None
                self._plan()
            if sighting is not None:
                dirty.written.append(sighting.reverted)
            elif self._reverts is not None:
                dirty.written.append(self._reverts.run())
            for area, extents in self._objects.contents():
                dirty.written.append(extents)
                dirty.dropped.append(ranges([(area.start, area.end)]))
        return dirty

    def _scan_runs(self, dirty: Dirty) -> None:
        for start, end in self._runs:
            try:
                if self._suspect:
                    raise KernelError("an earlier scan", f"memory from {start:#x} to {end:#x}", EPERM)
                self._sift(self._pagemap.written(start, end, check_registered=True), dirty)
            except KernelError:
                self.lost_runs += 1
                for area in self._areas_between(start, end):
                    self._adopt(area, dirty)

    @contextmanager
    def _collecting(self) -> Iterator[Dirty]:
        """Begin with what was given back; when the scan fails, what it has found so far is given back in turn."""
        dirty, self._given_back = self._given_back, Dirty()
        try:
            yield dirty
        except BaseException:
            self._given_back.add(dirty)
            raise

    def register_all(self) -> None:
        """The beginning: register everything. The program must stand still."""
        self.space.refresh()
        for area in self.space.areas:
            if area.kind != "special":
                self._register(area)
        self._plan()

    def take_all(self) -> Dirty:
        """After `register_all`: count all of the program's memory as written. The program may run."""
        with self._collecting() as dirty:
            for area in self.space.areas:
                if self._is_carried(area):
                    self._take(area, dirty)
        return dirty

    def _follow(self, dirty: Dirty, maps: bytes) -> bool:
        """Register what was mapped since the last time; its whole content counts as written. Whether there was none."""
        changed = self.space.refresh(maps)
        if changed is None:
            return True
        gone, come = changed
        self._untracked.difference_update((area.start, area.end) for area in gone)
        for change in difference(gone, come):
            if isinstance(change, Map):
                self._adopt(change.area, dirty)
        for area in come:
            if area.end > _SPACE_END and area.kind != "special":
                raise Unsupported(f"the program maps memory at {area.start:#x}, above 47 bits of address")
            if area.pathless_copy:
                dirty.written.append(_whole_file(area))
        self._plan()
        return False

    def _plan(self) -> None:
        """Work out what is scanned how, from the areas of now."""
        runs: list[tuple[int, int]] = []
        self._large = []
        self._replan = False
        carried: list[Area] = []
        run_bytes, broken = 0, True
        for area in self.space.areas:
            size = area.end - area.start
            is_carried = self._is_carried(area)
            if is_carried:
                carried.append(area)
            if not is_carried or self._is_untracked(area):
                broken = True
            elif size >= LARGE_BYTES:
                self._large.append(area)
                broken = True
            elif broken or (runs[-1][1] != area.start and run_bytes + size > RUN_BYTES):
                runs.append((area.start, area.end))
                run_bytes, broken = size, False
            else:
                runs[-1] = (runs[-1][0], area.end)
                run_bytes += size
        self._runs, self._runs_asked = runs, ranges(runs)
        self.carried = merge(ranges((area.start, area.end) for area in carried))
        large = ranges((area.start, area.end) for area in self._large)
        self._sweeps = [(int(a), int(b)) for a, b in outside(large, _SPACE_START, _SPACE_END).tolist()]
        self._objects.follow([area for area in carried if area.kind == "object"])
        self._private_files = merge(
            ranges((a.start, a.end) for a in carried if not a.shared and a.inode and not a.pathless_copy)
        )
        self._watch(self._copies)

    def _is_untracked(self, area: Area) -> bool:
        return (area.start, area.end) in self._untracked

    def _is_carried(self, area: Area) -> bool:
        """The kernel's own pages are not, nor a file that is shared and can only be read."""
        return area.kind == "object" or (area.kind != "special" and not (area.shared and self._is_untracked(area)))

    def _areas_between(self, start: int, end: int) -> Iterator[Area]:
        """Pieces of the carried areas between two addresses."""
        areas = self.space.areas
        at = max(bisect_right(areas, start, key=lambda area: area.start) - 1, 0)
        while at < len(areas) and areas[at].start < end:
            area = areas[at]
            at += 1
            low, high = max(area.start, start), min(area.end, end)
            if low < high and self._is_carried(area):
                yield area if (low, high) == (area.start, area.end) else area.piece(low, high)

    def _register(self, area: Area) -> bool:
        """Whether the area's content belongs to checkpoints; whether writes to it will be seen is noted."""
        try:
            self._uffd.register(area.start, area.end)
        except KernelError as error:
            if error.errno == EBUSY:
                raise Unsupported(
                    f"the program uses a userfaultfd of its own for {area.start:#x}-{area.end:#x}",
                    hint="such a program can be mirrored by named structures only",
                ) from error
            if area.protection & WRITE and error.errno != EPERM:
                raise Unsupported(
                    f"writes to {area.path or 'memory'} at {area.start:#x} can't be tracked: {error.what}",
                    hint="memory of devices can't be mirrored",
                ) from error
            whole = area_at(self.space.areas, area.start) or area
            self._untracked.add((whole.start, whole.end))
            self._replan = True
            return area.kind == "object"
        return True

    def _adopt(self, area: Area, dirty: Dirty) -> None:
        """Register an area and count all of its content as written."""
        if self._register(area):
            self._take(area, dirty)

    def _take(self, area: Area, dirty: Dirty) -> None:
        """Protect all of a registered area, and count all of its content as written."""
        large = area.end - area.start >= LARGE_BYTES
        # What taking gives is a part of what is populated, which is asked for after it: nothing falls between.
        take = self._pagemap.take_populated if large else self._pagemap.take_written
        take(area.start, area.end, check_registered=False)
        found = self._pagemap.populated(area.start, area.end)
        if area.pathless_copy:
            dirty.written.append(_whole_file(area))
        elif area.kind == "object":
            whole = area_at(self.space.areas, area.start) or area
            dirty.written.append(clip(self._objects.extents(whole), area.start, area.end))
            dirty.dropped.append(ranges([(area.start, area.end)]))
        else:
            self._by_content(area, found, dirty)
        if large:
            self._image.cover(expand(merge(join(dirty.written[-2:]))))

    def _by_content(self, area: Area, found: Ranges, dirty: Dirty) -> None:
        """Sort what exists between `area`'s ends into what must be read and what is zeros."""
        own_only = not area.shared and area.inode != 0
        dirty.written.append(self._pagemap.real(found, own_only=own_only))
        if area.zero_filled:
            dirty.dropped.append(ranges([(area.start, area.end)]))
        elif own_only:
            dirty.written.append(collapse(self._held(area.start, area.end)))

    def _sift(self, found: Ranges, dirty: Dirty) -> None:
        """Take a scan's result; long ranges are looked at first, for they may be absent."""
        if not len(found):
            return
        long = (found[:, 1] - found[:, 0]) >= np.uint64(LONG_BYTES)
        if not long.any():
            dirty.written.append(found)
            return
        dirty.written.append(found[~long])
        for start, end in found[long, :2].tolist():
            known = start
            for area in self._areas_between(start, end):
                if area.start > known:
                    dirty.written.append(ranges([(known, area.start)]))
                known = area.end
                if area.shared or area.pathless_copy:
                    dirty.written.append(ranges([(area.start, area.end)]))
                else:
                    self._by_content(area, self._pagemap.populated(area.start, area.end), dirty)
            if known < end:
                dirty.written.append(ranges([(known, end)]))

    def _scan_large(self, area: Area, dirty: Dirty, *, stopped: bool) -> None:
        """Fast where pages are known to exist, slow (which costs nothing where nothing is) everywhere else."""
        covered = clip(merge(self._image.covered(area.start, area.end), _WINDOW_GAP_BYTES), area.start, area.end)
        try:
            if self._suspect and stopped:
                raise KernelError("an earlier scan", f"memory from {area.start:#x} to {area.end:#x}", EPERM)
            for start, end in covered.tolist():
                scan = self._pagemap.written if stopped else self._pagemap.take_written
                self._sift(scan(start, end, check_registered=stopped), dirty)
            for start, end in outside(covered, area.start, area.end).tolist():
                found = self._pagemap.take_populated(start, end, check_registered=stopped)
                real = self._pagemap.real(found, own_only=not area.shared and area.inode != 0)
                self._image.cover(expand(real))
                dirty.written.append(real)
        except KernelError:
            self._suspect = True
            if stopped:
                self.lost_runs += 1
                self._adopt(area, dirty)


def _whole_file(area: Area) -> Ranges:
    """All of a mapping that lies before the end of its file."""
    length = max(0, min(area.end - area.start, area.size - area.offset))
    end = area.start + -(-length // PAGE_BYTES) * PAGE_BYTES
    return ranges([(area.start, end)]) if end > area.start else NO_RANGES
