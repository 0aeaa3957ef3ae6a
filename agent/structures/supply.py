"""A primary's side: all native structures of one program, each taken at its own interval.

What goes wrong with one structure is told once, in one line, and ends the mirroring of that one; the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.errors import CaptureError, CheckpointAbandoned, StructureError, TraceeGone
from agent.structures import standstill
from agent.structures.capture import Capture, Readable, pages_of
from agent.structures.changes import Watch
from agent.structures.locating import Located
from agent.structures.regular_file import FileCapture, RegularFile
from agent.structures.report import Declaration, Refusal
from agent.structures.standstill import Standstill
from agent.structures.update import Copy, Original, Update
from agent.tracing.tracee import Tracee
from transport.delta import PagePartEncoder


class Source(Readable, Protocol):
    """A capture, of a variable or a file."""

    original: Original

    def close(self) -> None: ...


@dataclass(slots=True)
class _Supplied:
    """One structure on its way. due_s: when it is to be taken next, second of CLOCK_MONOTONIC."""

    located: Located
    source: Source
    interval_s: float
    due_s: float = 0.0


class Supply:
    """Takes updates of the native structures of one program, in the tracer thread.

    told: each refusal, once. remarks: what works, but not as well as it could.
    """

    def __init__(
        self,
        located: Iterable[Located],
        tracee: Tracee,
        stop: Standstill,
        *,
        interval_ms: int,
        token: int,
        told: Callable[[Refusal], object],
        encoder: PagePartEncoder | None = None,
        copies: Mapping[str, Copy] | None = None,
        after: Mapping[str, int] | None = None,
    ) -> None:
        """Prepares each, which costs a variable one stop; interval_ms: of those that have none of their own.

        copies: what this program was given as a mirror, after its promotion. after: the highest versions that mirrors
        hold with this token, when another agent was here before.
        Raises CheckpointAbandoned, TraceeGone, with nothing prepared.
        """
        self.remarks: list[str] = []
        self._tracee, self._stop, self._told = tracee, stop, told
        self._watch = Watch(tracee, stop)
        self._encoder = encoder or PagePartEncoder()
        self._token = token
        self._copies, self._after = copies or {}, after or {}
        self._all: dict[str, _Supplied] = {}
        try:
            for one in located:
                self._begin(one, (one.table.interval_ms or interval_ms) / 1e3)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for one in self._all.values():
            one.source.close()
        self._all.clear()
        self._watch.close()

    @property
    def declarations(self) -> list[Declaration]:
        """What is mirrored, as this side has it."""
        return [Declaration.of(one.located.structure) for one in self._all.values()]

    @property
    def next_due_s(self) -> float | None:
        """When `take` has something to do again, second of CLOCK_MONOTONIC; None: nothing is mirrored."""
        return min((one.due_s for one in self._all.values()), default=None)

    def whole(self, name: str) -> Update | None:
        """A whole copy of a structure at its newest version; None while there is none, or no such structure."""
        one = self._all.get(name)
        return one.source.original.whole() if one is not None and one.source.original.version else None

    def content(self, name: str) -> bytes | None:
        """The blocks of a structure at its newest version; None while there is none, or no such structure."""
        one = self._all.get(name)
        return one.source.original.rows.tobytes() if one is not None and one.source.original.version else None

    def take(self, now_s: float) -> list[Update]:
        """The updates of the structures that are due, those with `consistency = "stop"` all of one instant.

        A stop that was abandoned is made up for at the next interval. Raises TraceeGone.
        """
        due = [one for one in self._all.values() if one.due_s <= now_s]
        for one in due:
            one.due_s = now_s + one.interval_s
        return self._take(due, self._stop)

    def take_last(self) -> list[Update]:
        """The last updates of a program that was killed: all of its threads are held on their way out, and its memory
        can still be read. Nothing that it wrote is lost then. Raises TraceeGone when it is too late.
        """
        updates = self._take(list(self._all.values()), standstill.none)
        places = [one.located.place for one in self._all.values() if one.located.place is not None]
        # Memory that is gone has no changed pages, either: only now it is certain that they were all seen.
        if places and not os.pread(self._tracee.memory, 1, places[0].address):
            raise TraceeGone(self._tracee.pid)
        return updates

    def _take(self, due: list[_Supplied], stop: Standstill) -> list[Update]:
        updates: list[Update] = []
        for is_stopped in (True, False):
            several = [one for one in due if (one.located.table.consistency == "stop") == is_stopped]
            several = [one for one in several if self._do(one, one.source.look)]
            if several:
                updates += self._copy(several, stop if is_stopped else standstill.none)
        return updates

    def _copy(self, several: list[_Supplied], stop: Standstill) -> list[Update]:
        read: list[_Supplied] = []
        failed: list[tuple[_Supplied, CaptureError | StructureError]] = []
        try:
            with stop():
                for one in several:
                    try:
                        one.source.copy()
                        read.append(one)
                    except (CaptureError, StructureError) as error:
                        failed.append((one, error))
        except CheckpointAbandoned:
            return []
        for one, why in failed:
            self._withdraw(one, why)
        return [update for one in read if (update := one.source.update()) is not None]

    def _do(self, one: _Supplied, action: Callable[[], object]) -> bool:
        try:
            action()
        except (CaptureError, StructureError) as error:
            self._withdraw(one, error)
            return False
        return True

    def _withdraw(self, one: _Supplied, error: CaptureError | StructureError) -> None:
        del self._all[one.located.name]
        one.source.close()
        self._told(Refusal.of(one.located.name, "lost", error))

    def _begin(self, one: Located, interval_s: float) -> None:
        try:
            source = self._open(one)
        except StructureError as error:
            self._told(Refusal.of(one.name, "lost", error))
            return
        self._all[one.name] = _Supplied(one, source, interval_s)

    def _open(self, one: Located) -> Source:
        if (copy := self._copies.get(one.name)) is not None:
            original = Original.continued(copy, self._encoder, self._token)
        else:
            after = self._after.get(one.name, 0)
            original = Original(one.name, one.structure.size, self._encoder, token=self._token, after=after)
        if one.place is None:
            return FileCapture(RegularFile(one.table.file or "", one.name, size=one.structure.size), original)
        changes = self._watch.changes(pages_of(one.place))
        self.remarks += [*one.structure.remarks, *([f"{one.name}: {changes.remark}"] if changes.remark else [])]
        return Capture(one.place, changes, original)
