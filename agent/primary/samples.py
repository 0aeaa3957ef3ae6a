"""Named structures of a program that is mirrored as a whole, read between its checkpoints. In the tracer thread.

A sample is what was in a structure after one checkpoint and before the next, and says which one it follows. It counts
only where that checkpoint is held: the next one has the structure, too, and is newer. Before and after each reading the
memory is looked at: in an address space that was laid out anew there may be something else at the address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from agent.context import layout
from agent.errors import CaptureError, KernelError, TraceeGone, Unsupported
from agent.kernel.pagemap import Pagemap
from agent.kernel.procfs import MapsFile
from agent.memory.page_ranges import NO_RANGES, Ranges, intersect
from agent.structures import standstill
from agent.structures.capture import Capture, pages_of
from agent.structures.finding import Placed
from agent.structures.ground import Ground, ground, ground_by_text
from agent.structures.locating import Located
from agent.structures.report import Refusal
from agent.structures.sample import HeldSample
from agent.structures.standstill import Standstill
from agent.structures.update import Original, Update
from agent.tracing.tracee import Tracee
from transport.checkpoint import NOTHING, Version
from transport.delta import PagePartEncoder
from transport.messages import Place

log = structlog.get_logger()

_MOVED: Final = "its memory was laid out anew; it is looked for once more"


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of one structure. update: None if it is as it was at the reading before."""

    place: Place
    original: Original
    update: Update | None
    follows: Version
    number: int
    captured_ns: int


@dataclass(slots=True)
class _Read:
    """A structure that is read. last: its newest reading."""

    located: Located
    place: Placed
    told: Place
    capture: Capture
    written: _Written
    ground: Ground
    interval_s: float
    due_s: float = 0.0
    last: Reading | None = None

    @property
    def span(self) -> tuple[int, int]:
        return self.place.address, self.place.address + self.place.structure.size


class _Written:
    """See `agent.structures.changes.Changes`: what was written since the last checkpoint, by the marks of the tracking
    of the whole memory, which are left in place. After each checkpoint, which takes them, everything is read once."""

    remark = ""

    def __init__(self, pid: int, of: Ranges, *, is_private: bool) -> None:
        """is_private: nobody else writes to it, so that all that is written is marked."""
        self._of = of
        self._pagemap = Pagemap(pid)
        self._is_private = is_private
        self._marks_count = False

    def renew(self) -> None:
        """The marks have been taken, or are about to be."""
        self._marks_count = False

    def running(self) -> Ranges:
        """Nothing is read ahead: it is little."""
        return NO_RANGES

    def standing(self) -> Ranges:
        """See `Changes`."""
        if not self._marks_count:
            self._marks_count = self._is_private
            return self._of
        try:
            found = self._pagemap.written(
                int(self._of[0, 0]), int(self._of[-1, 1]), check_registered=len(self._of) == 1
            )
        except KernelError:  # Some of it is not tracked yet.
            return self._of
        return intersect(found[:, :2], self._of) if len(found) else NO_RANGES

    def close(self) -> None:
        """See `Changes`."""
        self._pagemap.close()


class Samples:
    """The readings of one program.

    lost: told of a structure that must be looked for anew. troubles: why one can't be read, by its name. abandoned: how
    often the program did not stand still in time.
    """

    def __init__(self, tracee: Tracee, stop: Standstill, token: int) -> None:
        self.tracee = tracee
        self.lost: Callable[[str], object] = lambda name: None
        self.troubles: dict[str, str] = {}
        self.abandoned = 0
        self._stop = stop
        self._token = token
        self._all: dict[str, _Read] = {}
        self._encoder: PagePartEncoder | None = None
        self._maps: MapsFile | None = None
        self._text = b""
        """Of /proc/PID/maps, when everything was at its place."""
        self._layout = b""
        self._held: dict[str, Ground] = {}
        """By the layout of the newest checkpoint."""
        self._number = 0
        self._versions: dict[str, int] = {}
        self._barred = NOTHING

    @property
    def next_due_s(self) -> float | None:
        """When `take` has something to do again, second of CLOCK_MONOTONIC; None: nothing is read."""
        return min((one.due_s for one in self._all.values()), default=None)

    def is_due(self, now_s: float) -> bool:
        """Whether `take` has something to do."""
        due_s = self.next_due_s
        return due_s is not None and due_s <= now_s

    def add(self, found: Iterable[Located], refused: Iterable[Refusal]) -> None:
        """Read these from now on. Raises TraceeGone."""
        pid = self.tracee.pid
        for refusal in refused:
            if self.troubles.get(refusal.structure) != refusal.what:
                log.warning("a structure is not read", structure=refusal.structure, reason=refusal.what)
            self.troubles[refusal.structure] = refusal.what
        self._maps = self._maps or MapsFile(pid)
        lines = self._maps.read().splitlines()
        for one in found:
            place = one.place
            if place is None or one.name in self._all:
                continue
            start, end = place.address, place.address + place.structure.size
            is_private = all(not identity[0] for _, _, identity in ground_by_text(lines, start, end))
            written = _Written(pid, pages_of(place), is_private=is_private)
            self._encoder = self._encoder or PagePartEncoder()
            original = Original(
                one.name, place.structure.size, self._encoder, token=self._token, after=self._versions.get(one.name, 0)
            )
            extents = tuple((first, last) for first, last in place.structure.extents.tolist())
            self._all[one.name] = _Read(
                one,
                place,
                Place(one.name, start, place.structure.size, extents),
                Capture(place, written, original),
                written,
                ground_by_text(lines, start, end),
                (one.table.interval_ms or 0) / 1000,
            )
            self.troubles.pop(one.name, None)
            self._layout = b""
            for remark in place.structure.remarks:
                log.warning("a structure is read", remark=remark)

    def renew(self) -> None:
        """The memory as a whole is read now: its marks are taken."""
        for one in self._all.values():
            one.written.renew()

    def forget(self, newest: Version) -> None:
        """The program has replaced itself: nothing is where it was, and nothing follows its `newest` checkpoint."""
        self._barred = newest
        for name in list(self._all):
            self._lose(name, _MOVED)
        self.close()

    def close(self) -> None:
        """Let go of the process."""
        for one in self._all.values():
            one.capture.close()
        self._all.clear()
        if self._maps is not None:
            self._maps.close()
            self._maps = None
        self._text = b""

    def newest(self, version: Version) -> dict[str, HeldSample]:
        """What was read of each structure after the checkpoint `version`, where anything was."""
        return {
            name: HeldSample(name, last.original.version, last.captured_ns, last.place.size, last.original.rows)
            for name, one in self._all.items()
            if (last := one.last) is not None and last.follows == version
        }

    def take(self, now_s: float, follows: Version, record: bytes) -> list[Reading]:
        """Read what is due, those with `consistency = "stop"` all at one instant. record: the layout of the checkpoint
        `follows`, which is the newest. What could not be read is tried again at its next interval."""
        due = [one for one in self._all.values() if one.due_s <= now_s]
        for one in due:
            one.due_s = now_s + one.interval_s
        # What was mapped only after the checkpoint has no place in it.
        due = [one for one in due if self._has_place(one, record)]
        readings: list[Reading] = []
        for is_stopped in (True, False):
            several = [one for one in due if (one.located.table.consistency == "stop") == is_stopped]
            if several and follows != self._barred:
                readings += self._read(several, follows, self._stop if is_stopped else standstill.none)
        return readings

    def _has_place(self, one: _Read, record: bytes) -> bool:
        if record != self._layout:
            areas = layout.decode(record)
            self._held = {name: ground(areas, *read.span) for name, read in self._all.items()}
            self._layout = record
        return self._held.get(one.located.name) == one.ground

    def _read(self, several: list[_Read], follows: Version, stop: Standstill) -> list[Reading]:
        failed: dict[str, str] = {}
        for one in several:
            one.capture.look()
        try:
            with stop():
                captured_ns = time.time_ns()
                for one in several:
                    try:
                        one.capture.copy()
                    except (CaptureError, KernelError) as error:
                        failed[one.located.name] = error.what
            failed |= {one.located.name: _MOVED for one in self._moved(several)}
        except TraceeGone:
            return []  # Its end is told elsewhere.
        except (CaptureError, KernelError, Unsupported):
            self.abandoned += 1
            return []
        for name, why in failed.items():
            self._lose(name, why)
        readings = []
        for one in several:
            if one.located.name not in failed:
                self._number += 1
                original = one.capture.original
                update = one.capture.update()
                one.last = Reading(one.told, original, update, follows, self._number, captured_ns)
                readings.append(one.last)
        return readings

    def _moved(self, several: Iterable[_Read]) -> list[_Read]:
        """Those whose memory is not what it was when they were found."""
        text = self._maps.read() if self._maps is not None else b""
        if not text:
            raise TraceeGone(self.tracee.pid)
        if text == self._text:
            return []
        lines = text.splitlines()
        moved = [one for one in self._all.values() if ground_by_text(lines, *one.span) != one.ground]
        # Only a text in which all are at their places is one that need not be looked at again.
        self._text = b"" if moved else text
        return [one for one in moved if one in several]

    def _lose(self, name: str, why: str) -> None:
        one = self._all.pop(name)
        self._versions[name] = one.capture.original.version
        one.capture.close()
        self.troubles[name] = why
        log.warning("a structure is not read any more", structure=name, reason=why)
        self.lost(name)
