"""Which pages of a structure may have changed since they were last read."""

from __future__ import annotations

from typing import Final, Protocol

from agent.errors import KernelError, Unsupported
from agent.kernel import procfs
from agent.kernel.pagemap import Pagemap
from agent.kernel.userfaultfd import Userfaultfd
from agent.memory.page_ranges import NO_RANGES, Ranges, intersect
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

    def __init__(self, of: Ranges, pid: int, uffd: Userfaultfd) -> None:
        """Takes the userfaultfd over; the program must stand still. KernelError when the pages can't be registered."""
        self._of, self._uffd = of, uffd
        self._start, self._end = int(of[0, 0]), int(of[-1, 1])
        self._pagemap = Pagemap(pid)
        try:
            self._register()
        except KernelError:
            self.close()
            raise

    def running(self) -> Ranges:
        return self._mine(self._pagemap.take_written(self._start, self._end, check_registered=False))

    def standing(self) -> Ranges:
        try:
            # The next call finds these pages again: taking their marks would cost a part of the stop.
            return self._mine(self._pagemap.written(self._start, self._end, check_registered=self._is_one))
        except KernelError:
            self._register()
            return self._of

    def close(self) -> None:
        self._uffd.close()
        self._pagemap.close()

    @property
    def _is_one(self) -> bool:
        # Between several ranges there may be mappings that are none of ours.
        return len(self._of) == 1

    def _mine(self, found: Ranges) -> Ranges:
        return intersect(found[:, :2], self._of) if len(found) else NO_RANGES

    def _register(self) -> None:
        # A page that was just registered counts as written.
        for start, end in self._of.tolist():
            self._uffd.register(start, end)


def watch(tracee: Tracee, of: Ranges, standstill: Standstill) -> Changes:
    """The best way to find changed pages in this program; costs it one stop. Raises CheckpointAbandoned, TraceeGone."""
    if procfs.status(tracee.pid).seccomp:
        # It would be killed for a system call that it may not make.
        return AllChanges(of, f"writes can't be tracked: the program restricts its system calls; {_HINT}")
    tracee.prepare_remote()
    with standstill():
        try:
            with tracee.remote(next(iter(tracee.threads))) as call:
                uffd = Userfaultfd.inside(call, tracee.pidfd)
            return ProtectedChanges(of, tracee.pid, uffd)
        except (KernelError, Unsupported) as error:
            return AllChanges(of, f"writes can't be tracked: {error.what}; {_HINT}")
