"""All rooms of the context but memory, read at one stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from agent.context import process, signals
from agent.context.clocks import ProgramClocks
from agent.context.descriptors import DescriptorCapture
from agent.context.threads import ThreadCapture
from agent.context.timers import TimerCapture
from agent.kernel.procfs import StatusFile
from agent.scout.scout import Scout
from agent.tracing.stopped import Stopped
from agent.tracing.tracee import Tracee
from transport.checkpoint import Records

_REFRESH_EVERY = 256
_PROCESS_TURN, _SIGNALS_TURN, _TIMERS_TURN = 64, 128, 192
"""Of each 256 stops, the one at which this room's values are asked for again: never two at the same stop."""


class ContextCapture:
    """Reads the context of one program at its stops.

    What needs an injected call (handlers, timers, limits) is read at the first stop and again at every 256th (13 s at
    20 checkpoints a second): it costs a millisecond for each room. So that the first stop does not take ten times as
    long as others, `learn` reads all of that ahead, in several short ones.
    """

    def __init__(self, tracee: Tracee, rule_for: Callable[[str], str | None], scout: Scout | None = None) -> None:
        self._tracee = tracee
        self._clocks = ProgramClocks(tracee.pid)
        self._threads = ThreadCapture(tracee.restarts.blocked)
        self._timers = TimerCapture(self._clocks)
        self._descriptors = DescriptorCapture(tracee.pid, rule_for, scout)
        self._status = StatusFile(tracee.pid)
        self._captures = 0
        self._learned: Records = {}
        self._lessons: Iterator[None] | None = None

    @property
    def connections(self) -> Sequence[bytes]:
        """What the scout may ask about at the next stop: see `agent.context.network`."""
        return self._descriptors.connections

    def learn(self) -> bool:
        """At a stop, read a part of what the first `read` would have to; False when nothing is left. Raises as it."""
        if self._lessons is None:
            self._lessons = self._learn()
        try:
            return next(self._lessons, False) is None
        except BaseException:
            self._lessons = None  # an iterator that has raised is at its end
            raise

    def _learn(self) -> Iterator[None]:
        learned: Records = {}
        learned.update(process.capture(self._refreshed(), self._clocks, self._status.read()))
        yield
        learned.update(signals.capture(self._refreshed(), self._status.read()))
        yield
        learned.update(self._timers.capture(self._refreshed()))
        yield
        while self._threads.learn(self._refreshed()):
            yield
        while self._descriptors.learn(self._refreshed()):
            yield
        self._learned = learned
        # What runs for the first time takes several times as long.
        self.read(learned)
        yield

    def _refreshed(self) -> Stopped:
        return self._stopped({}, dying=False, exact=False, refresh=True)

    def capture(self, previous: Records, *, dying: bool = False, last: bool = False) -> Records:
        """The records of now; the program stands still, or is held as it dies (`dying`, which always is the `last`).

        Raises as `read`.
        """
        return self.read(previous, dying=dying, last=last)()

    def read(self, previous: Records, *, dying: bool = False, last: bool = False) -> Callable[[], Records]:
        """Read everything at a stop, as `capture` does. What it gives makes the records, before the next stop.

        Raises Unsupported, CaptureError, KernelError, TraceeGone.
        """
        previous = previous or self._learned
        stopped = self._stopped(previous, dying=dying, exact=dying or last, refresh=not previous and not dying)
        status = self._status.read()
        told = {
            **process.capture(self._in_turn(stopped, _PROCESS_TURN), self._clocks, status),
            **signals.capture(self._in_turn(stopped, _SIGNALS_TURN), status),
            **self._timers.capture(self._in_turn(stopped, _TIMERS_TURN)),
        }
        tell_threads = self._threads.read(stopped)
        tell_descriptors = self._descriptors.read(stopped)
        self._captures += 1
        return lambda: {**told, **tell_threads(), **tell_descriptors()}

    def _in_turn(self, stopped: Stopped, turn: int) -> Stopped:
        """The stop as a room sees it whose turn it may be to be read as a whole."""
        if stopped.dying or self._captures % _REFRESH_EVERY != turn:
            return stopped
        return replace(stopped, refresh=True)

    def close(self) -> None:
        """Give back the descriptors that are kept."""
        self._status.close()
        self._timers.close()
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
