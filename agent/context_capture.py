"""All rooms of the context but memory, read at one stop."""

from __future__ import annotations

from collections.abc import Callable

from agent.context import process, signals
from agent.context.clocks import ProgramClocks
from agent.context.descriptors import DescriptorCapture
from agent.context.threads import ThreadCapture
from agent.context.timers import TimerCapture
from agent.kernel import procfs
from agent.stopped import Stopped
from agent.tracee import Tracee
from transport.checkpoint import Records

_REFRESHED_FIRST = 1
_REFRESH_EVERY = 256


class ContextCapture:
    """Reads the context of one program at its stops.

    What needs an injected call (handlers, alternate stacks, limits) is read again at the first stop and at every 256th
    (13 s at 20 checkpoints a second): it costs some milliseconds.
    """

    def __init__(self, tracee: Tracee, rule_for: Callable[[str], str | None]) -> None:
        self._tracee = tracee
        self._clocks = ProgramClocks(tracee.pid)
        self._threads = ThreadCapture(tracee.restarts.blocked)
        self._timers = TimerCapture(self._clocks)
        self._descriptors = DescriptorCapture(tracee.pid, rule_for)
        self._captures = 0

    def capture(self, previous: Records, *, dying: bool = False, last: bool = False) -> Records:
        """The records of now; the program stands still, or is held as it dies (`dying`, which always is the `last`).

        Raises Unsupported, CaptureError, KernelError, TraceeGone.
        """
        refresh = self._captures < _REFRESHED_FIRST or self._captures % _REFRESH_EVERY == 0
        stopped = self._stopped(previous, dying=dying, exact=dying or last, refresh=refresh and not dying)
        status = procfs.status(stopped.pid)
        records = {
            **process.capture(stopped, self._clocks, status),
            **signals.capture(stopped, status),
            **self._timers.capture(stopped),
            **self._threads.capture(stopped),
            **self._descriptors.capture(stopped),
        }
        self._captures += 1
        return records

    def close(self) -> None:
        """Give back the descriptors that are kept."""
        self._descriptors.close()

    def _stopped(self, previous: Records, *, dying: bool, exact: bool, refresh: bool) -> Stopped:
        tracee = self._tracee
        return Stopped(
            tracee.pid,
            tracee.threads,
            tracee.memory,
            tracee.pidfd,
            tracee.remote,
            previous,
            dying=dying,
            exact=exact,
            refresh=refresh,
            block=tracee.block,
        )
