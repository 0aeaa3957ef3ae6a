"""Which pages of a structure may have changed since they were last read."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from agent.errors import KernelError, Unsupported
from agent.kernel import procfs
from agent.kernel.pagemap import Pagemap
from agent.kernel.userfaultfd import Userfaultfd
from agent.memory.page_ranges import NO_RANGES, Ranges, intersect, join, merge
from agent.structures.standstill import Standstill
from agent.tracing.tracee import Tracee

_HINT: Final = "each stop copies it whole: about 0.25 ms for each MiB"


class Changes(Protocol):
    """Finds changed pages. of: their ranges, ascending and apart; all of them count as changed at first."""

    remark: str
    """Why this is not the best way that there is; "" if it is."""

    def running(self) -> Ranges:
        """What to read before the stop, while the program runs; the next call finds what it writes from now on."""
        ...

    def standing(self) -> Ranges:
        """What to read within the stop; afterwards everything that changed has been read since."""
        ...

    def close(self) -> None: ...


class AllChanges:
    """Nothing tells what changed: everything is read, all of it within the stop. Works with every kernel."""

    def __init__(self, of: Ranges, remark: str) -> None:
        self._of, self.remark = of, remark

    def running(self) -> Ranges:
        return NO_RANGES

    def standing(self) -> Ranges:
        return self._of

    def close(self) -> None:
        """There is nothing to close."""


class ProtectedChanges:
    """The kernel marks each page that is written (Linux 6.7: userfaultfd in asynchronous write-protect mode).

    Not seen is memory that the program gives back (MADV_DONTNEED), or that is written through another mapping, which
    nobody does to variables.
    """

    remark = ""

    def __init__(self, of: Ranges, tracking: Tracking) -> None:
        """The program must stand still. Raises KernelError when the pages can't be registered."""
        self.of = of
        self._tracking = tracking
        self._given: list[Ranges] = []
        tracking.join(self)

    def running(self) -> Ranges:
        return self._with_given(self._tracking.take(self))

    def standing(self) -> Ranges:
        try:
            return self._with_given(self._tracking.look(self))
        except KernelError:
            # A mapping was replaced. A page that has just been registered counts as written at the next look.
            self._tracking.register(self.of)
            return self.of

    def give(self, taken: Ranges) -> None:
        """Another structure has taken the marks of these pages, some of which may be this one's, too."""
        mine = intersect(taken, self.of)
        if len(mine):
            self._given.append(mine)

    def close(self) -> None:
        self._tracking.leave(self)

    def _with_given(self, found: Ranges) -> Ranges:
        if not self._given:
            return found
        found = merge(join((found, *self._given)))
        self._given.clear()
        return found


class Tracking:
    """The userfaultfd of one program, for all of its structures: small variables have pages in common."""

    def __init__(self, pid: int, uffd: Userfaultfd) -> None:
        """Takes the userfaultfd over."""
        self._uffd = uffd
        self._pagemap = Pagemap(pid)
        self._members: list[ProtectedChanges] = []

    def close(self) -> None:
        self._uffd.close()
        self._pagemap.close()

    def join(self, member: ProtectedChanges) -> None:
        """Track the pages of one more structure. Raises KernelError."""
        self.register(member.of)
        self._members.append(member)

    def leave(self, member: ProtectedChanges) -> None:
        """Forget one; its pages stay registered, which costs the program a fault for each that it writes once more."""
        self._members.remove(member)

    def register(self, of: Ranges) -> None:
        """Track these pages, too, in a program that stands still. Raises KernelError."""
        for start, end in of.tolist():
            self._uffd.register(start, end)

    def take(self, member: ProtectedChanges) -> Ranges:
        """What was written of a structure's pages since anybody took their marks; those are gone then."""
        start, end = _span(member.of)
        found = self._pagemap.take_written(start, end, check_registered=False)
        taken = np.ascontiguousarray(found[:, :2]) if len(found) else NO_RANGES
        for other in self._members:
            if other is not member:
                other.give(taken)
        return intersect(taken, member.of)

    def look(self, member: ProtectedChanges) -> Ranges:
        """The same, without taking them, which would cost a part of the stop: the next `take` finds them again.

        Raises KernelError when some of the pages are not registered any more.
        """
        start, end = _span(member.of)
        # Between several ranges there may be mappings that are none of ours.
        found = self._pagemap.written(start, end, check_registered=len(member.of) == 1)
        return intersect(found[:, :2], member.of) if len(found) else NO_RANGES


def _span(of: Ranges) -> tuple[int, int]:
    return int(of[0, 0]), int(of[-1, 1])


class Watch:
    """Finds changed pages in one program in the best way that there is."""

    def __init__(self, tracee: Tracee, standstill: Standstill) -> None:
        self._tracee, self._standstill = tracee, standstill
        self._tracking: Tracking | None = None

    def close(self) -> None:
        """After all that it gave are closed."""
        if self._tracking is not None:
            self._tracking.close()
            self._tracking = None

    def changes(self, of: Ranges) -> Changes:
        """Those of a structure with these pages; costs the program one stop. Raises CheckpointAbandoned, TraceeGone."""
        tracee = self._tracee
        if procfs.status(tracee.pid).seccomp:
            # It would be killed for a system call that it may not make.
            return AllChanges(of, f"writes can't be tracked: the program restricts its system calls; {_HINT}")
        tracee.prepare_remote()
        with self._standstill():
            try:
                if self._tracking is None:
                    with tracee.remote(next(iter(tracee.threads))) as call:
                        uffd = Userfaultfd.inside(call, tracee.pidfd)
                    self._tracking = Tracking(tracee.pid, uffd)
                return ProtectedChanges(of, self._tracking)
            except (KernelError, Unsupported) as error:
                return AllChanges(of, f"writes can't be tracked: {error.what}; {_HINT}")
