"""The resident of the tracer thread while its program serves: performs what `agent.primary.decisions` decides.

It looks after the traced program (signals, births, deaths), takes a checkpoint when one is due, hands it to the
publication, and at the program's end does the last things in their order.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterable

import structlog

from agent.context import layout
from agent.errors import CaptureError, CheckpointAbandoned, KernelError, TraceeGone, Unsupported
from agent.primary.checkpointer import Checkpointer
from agent.primary.decisions import (
    Abandoned,
    AudienceChanged,
    DropAddress,
    Due,
    Effect,
    End,
    Ending,
    Event,
    LetDie,
    Primary,
    Refused,
    Released,
    Report,
    Silence,
    Take,
    Taken,
)
from agent.primary.publication import Publication
from agent.primary.samples import Samples
from agent.primary.socket_holder import SocketHolder
from agent.tracing.program_event import Dying, Executed, Exited, ProgramEvent

log = structlog.get_logger()

_FILL_S = 0.01
"""So long the image is filled before the program is looked after again."""
_BETWEEN_S = 0.01
"""The program runs at least so long between the short stops that come before the first checkpoint."""
_HOLD_S_MAX = 2.0
_COLLECT_EVERY = 100
"""Automatic garbage collection is off (`agent.runner`): it would fall into stops."""


class Serving:
    """One primary. All methods belong to the tracer thread.

    silence: lets nothing more be said in the name of the program's address. drop_address: takes it off this node.
    report: tells how the program ended. reaped: its process is gone. begin_at_s: not before this second of
    CLOCK_MONOTONIC is its memory read. samples: of structures that are read between checkpoints; None: there are none.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        publication: Publication,
        primary: Primary,
        *,
        deadline_s: float,
        silence: Callable[[], None],
        drop_address: Callable[[], None],
        report: Callable[[Report], None],
        reaped: Callable[[], None],
        begin_at_s: float = 0.0,
        samples: Samples | None = None,
    ) -> None:
        self.checkpointer = checkpointer
        self.publication = publication
        self.primary = primary
        self.samples = samples
        self.trouble = ""
        self.held = False
        self.ended_s = 0.0
        self._deadline_s = deadline_s
        self._silence = silence
        self._drop_address = drop_address
        self._report = report
        self._reaped = reaped
        self._begin_at_s = begin_at_s
        self._sockets = SocketHolder()
        self._has_corpse = False
        self._filled = False
        self._events: list[ProgramEvent] = []
        self._terminating = False

    @property
    def ended(self) -> bool:
        """Whether the program's process is gone."""
        return self.checkpointer.tracee.ended

    def wake(self, now_s: float) -> float | None:
        """See `tracer.Resident`."""
        self.look_after()
        events, self._events = self._events, []
        for event in events:
            self._happened(event)
        if self.held or self.ended:
            return None
        if self.primary.ending is not None:
            self._step(Due())
            return self.primary.due_s
        self._step(AudienceChanged(self.publication.followers))
        if self.primary.due_s is not None and time.monotonic() >= self.primary.due_s:
            if not self._filled:
                return self._fill() if time.monotonic() >= self._begin_at_s else self._begin_at_s
            self._step(Due())
        return self._sample(self.samples) if self.samples is not None else self.primary.due_s

    def look_after(self) -> None:
        """Handle what the running program's threads wait for; called between the parts of longer work, too."""
        self._events += self.checkpointer.tracee.pump()

    def hold(self) -> None:
        """Planned: take the last checkpoint and let the program stand still at it. Raises CaptureError and its kin."""
        checkpointer = self.checkpointer
        if not checkpointer.begun or not self._filled:
            raise CaptureError("there is no mirror that could go on", hint="wait until a mirror is in step")
        self._renew_samples()
        try:
            self.publication.captured(checkpointer.hold(_HOLD_S_MAX, self._silence))
        finally:
            self._drop_address()
        self.held = True

    def freeze(self) -> None:
        """Let the program stand still, without a checkpoint; its address must have been dropped."""
        if not self.held:
            self.checkpointer.tracee.stop(time.monotonic() + _HOLD_S_MAX)
            self.held = True

    def resume(self) -> None:
        """Undo `hold` or `freeze`."""
        if self.held:
            self.held = False
            self.checkpointer.tracee.resume()

    def terminate(self, number: signal.Signals) -> None:
        """Send the program a signal that shall end it; its end is no failure then."""
        self._terminating = True
        try:
            os.kill(self.checkpointer.tracee.pid, number)
        except ProcessLookupError:
            pass
        # SIGKILL ends a program that is held without letting it run once more.
        if number != signal.SIGKILL:
            self.resume()

    def release(self) -> None:
        """Another instance serves: end a held program, and let go of its sockets without a word."""
        if self.held:
            self._sockets.take(self.checkpointer.tracee.pidfd, self.checkpointer.encoder.history.records)
            self.terminate(signal.SIGKILL)
        self._step(Released())
        self._sockets.release_silently()

    def leave(self) -> None:
        """Let go of the program, which runs on without its agent."""
        tracee = self.checkpointer.tracee
        if not self.ended and self.primary.ending is None:
            if not self.held:
                tracee.stop(time.monotonic() + _HOLD_S_MAX)
            tracee.detach()
        self._hold_sockets()
        self.checkpointer.close()
        if self.samples is not None:
            self.samples.close()
        self._sockets.release_silently()
        tracee.close()

    def _fill(self) -> float:
        """Begin, go on with the first image, and then read ahead; gives the second at which to be called again."""
        checkpointer = self.checkpointer
        self._renew_samples()
        try:
            if not checkpointer.begun:
                checkpointer.begin()
            until_s = time.monotonic() + _FILL_S
            while time.monotonic() < until_s:
                if checkpointer.fill():
                    continue
                if checkpointer.learn():
                    return time.monotonic() + _BETWEEN_S
                self._filled = True
                break
        except (CaptureError, Unsupported, KernelError, TraceeGone) as error:
            self._failed(error)
        return time.monotonic()

    def _sample(self, samples: Samples) -> float | None:
        """Read the structures that are due, if there is a checkpoint that they can follow; gives the second at which to
        be called again."""
        due_s, publication = self.primary.due_s, self.publication
        if due_s is None or not self._filled or not publication.dated:
            return due_s
        now_s, encoder = time.monotonic(), publication.encoder
        if samples.is_due(now_s) and now_s < due_s:
            publication.samples.publish(samples.take(now_s, encoder.version, encoder.history.records[layout.KEY]))
        return due_s if samples.next_due_s is None else min(due_s, samples.next_due_s)

    def _renew_samples(self) -> None:
        """The memory as a whole is about to be read."""
        if self.samples is not None:
            self.samples.renew()

    def _failed(self, error: CaptureError | Unsupported | KernelError | TraceeGone) -> None:
        if error.what != self.trouble:
            log.warning("no checkpoint", reason=error.what, hint=error.hint)
        self.trouble = error.what
        self._step(Abandoned())

    def _happened(self, event: ProgramEvent) -> None:
        if isinstance(event, Dying | Exited):
            self.ended_s = self.ended_s or time.monotonic()
        match event:
            case Dying(status):
                end = End(event.kind)
                if end is End.KILLED and self._terminating:
                    end = End.TERMINATED
                self._step(Ending(end, status))
            case Exited(status):
                self._step(Ending(End(event.kind), status))
                if self.samples is not None:
                    self.samples.close()
                self._reaped()
            case Executed():
                self.trouble = (
                    "the program has replaced itself (execve): its mirrors can't follow until it is restarted"
                )
                log.error("the program has replaced itself", remedy="start it anew under its agent")
                self.checkpointer.close()
                if self.samples is not None:
                    self.samples.forget(self.publication.encoder.version)
                self._filled = False
            case _:
                pass

    def _step(self, event: Event) -> None:
        self._perform(self.primary.step(time.monotonic(), event))

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Take(final):
                    self._take_last() if final else self._take()
                case Silence():
                    self._silence()
                case DropAddress():
                    self._drop_address()
                case LetDie():
                    self._hold_sockets()
                    self.checkpointer.tracee.release_dying()
                case Report():
                    self._report(effect)

    def _take(self) -> None:
        started_s = time.monotonic()
        self._renew_samples()
        try:
            encoded = self.checkpointer.take(self._deadline_s)
        except (CaptureError, Unsupported, KernelError, TraceeGone) as error:
            if isinstance(error, CheckpointAbandoned):
                self._step(Abandoned())
            else:
                self._failed(error)
            return
        self.trouble = ""
        self.publication.captured(encoded)
        if encoded.header.version.number % _COLLECT_EVERY == 0:
            gc.collect()
        self._step(Taken(started_s))

    def _take_last(self) -> None:
        started_s = time.monotonic()
        try:
            if not self._filled:
                raise CaptureError("no mirror was in step yet")
            encoded = self.checkpointer.last_gasp()
        except (CaptureError, Unsupported, KernelError, TraceeGone) as error:
            log.warning("no last checkpoint of the dying program", reason=error.what)
            self._step(Refused(error.what))
            return
        self.publication.captured(encoded)
        self._has_corpse = True
        self._step(Taken(started_s, final=True))

    def _hold_sockets(self) -> None:
        """The dying threads, which are held, keep their sockets open; now they are to end without a word."""
        if self._has_corpse:
            self._has_corpse = False
            self._sockets.take(self.checkpointer.tracee.pidfd, self.checkpointer.encoder.history.records)
