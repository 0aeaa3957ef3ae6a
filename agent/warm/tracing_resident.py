"""The resident of the tracer thread beside a warm program with native structures.

It looks after the traced program, takes updates of what is due while it is the primary's, and writes those that come
while it is a mirror's. All methods belong to the tracer thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from agent.errors import CheckpointAbandoned, KernelError, RestoreError, TraceeGone
from agent.primary.pauses import Pauses
from agent.structures import standstill
from agent.structures.locating import Located
from agent.structures.reception import Reception
from agent.structures.report import Declaration, Refusal, Resync
from agent.structures.supply import Supply
from agent.structures.update import Applied, Copy, Update
from agent.tracing.program_event import Dying, Executed, Exited, ProgramEvent
from agent.tracing.prompt import Prompt
from agent.tracing.tracee import Tracee
from transport.structure_messages import Held

log = structlog.get_logger()

HOLD_S: Final = 2.0
COMPARE_S: Final = 10.0
"""How rarely a mirror's program is compared with what it was given: all of it is read."""


class TracingResident:
    """See the head of this file.

    captured: told of updates, and when they were taken (CLOCK_REALTIME, nanoseconds); that there are none is news, too.
    refused: what can't be mirrored, and why. ended: the wait status of the program, which is reaped then.
    """

    def __init__(
        self,
        tracee: Tracee,
        prompt: Prompt,
        deadline_s: float,
        interval_ms: int,
        captured: Callable[[list[Update], int], None],
        refused: Callable[[Refusal], None],
        ended: Callable[[int], None],
    ) -> None:
        self.tracee = tracee
        self.pauses = Pauses()
        self.abandoned = 0
        self._interval_ms = interval_ms
        self._captured = captured
        self._refused = refused
        self._ended = ended
        self._stop = standstill.by_tracing(tracee, prompt, deadline_s, lambda took_s: self.pauses.add(took_s * 1e6))
        self._supply: Supply | None = None
        self._reception: Reception | None = None
        self._is_held = False
        self._compare_s = 0.0

    # ------------------------------------------------------------ what it is

    def wake(self, now_s: float) -> float | None:
        """See `tracer.Resident`."""
        for event in self.tracee.pump():
            self._happened(event)
        supply = self._supply
        if self._is_held or self.tracee.ended or self.tracee.dying is not None:
            return None
        if supply is None:
            return self._compare_own(now_s)
        due_s = supply.next_due_s
        if due_s is not None and due_s <= now_s:
            self._take(supply, now_s)
            due_s = supply.next_due_s
        return due_s

    def supply(
        self, located: Iterable[Located], token: int, after: Mapping[str, int]
    ) -> list[tuple[Declaration, Held | None]]:
        """Be a primary's from now on; what a mirror was given goes on as the original. after: see `Supply`.

        Raises CheckpointAbandoned, TraceeGone.
        """
        if self._supply is not None:
            self._supply.close()
        copies: dict[str, Copy] = self._reception.copies if self._reception is not None else {}
        self._supply = Supply(
            located,
            self.tracee,
            self._stop,
            interval_ms=self._interval_ms,
            token=token,
            told=self._refused,
            copies=copies,
            after=after,
        )
        if self._reception is not None:
            self._reception.close()
            self._reception = None
        for remark in self._supply.remarks:
            log.warning("native structures", remark=remark)
        held = {name: (copy.version, copy.state) for name, copy in copies.items()}
        return [(one, held.get(one.structure)) for one in self._supply.declarations]

    def receive(self, located: Iterable[Located]) -> list[Declaration]:
        """Be a mirror's from now on. Raises TraceeGone."""
        self._reception = reception = Reception(located, self._stop)
        self._compare_s = time.monotonic() + COMPARE_S
        for refusal in reception.refusals:
            self._refused(refusal)
        return reception.declarations

    def compare(self, declaration: Declaration) -> Refusal | None:
        """See `Reception.compare`; None, too, while nothing is received yet."""
        return None if self._reception is None else self._reception.compare(declaration)

    def apply(self, update: Update) -> Applied | Resync | Refusal | None:
        """See `Reception.apply`."""
        return None if self._reception is None else self._reception.apply(update)

    @property
    def holds(self) -> dict[str, tuple[int, bytes]]:
        """See `Reception.holds`."""
        return {} if self._reception is None else self._reception.holds

    def whole(self, name: str) -> list[Update]:
        """A whole copy of a structure at its newest version, if there is one."""
        found = None if self._supply is None else self._supply.whole(name)
        return [] if found is None else [found]

    def content(self, name: str) -> bytes | None:
        """The bytes of a structure as they were captured or written last, and some zeros; None: nothing was yet."""
        if self._supply is not None:
            return self._supply.content(name)
        return None if self._reception is None else self._reception.content(name)

    # ------------------------------------------------------------ still, and gone

    def hold(self) -> None:
        """Let the program stand still, with all that it has changed taken. Raises CheckpointAbandoned, TraceeGone."""
        if self._is_held:
            return
        self.tracee.stop(time.monotonic() + HOLD_S)
        self._is_held = True
        self._take_last()

    def resume(self) -> None:
        """Undo `hold`."""
        if self._is_held:
            self._is_held = False
            self.tracee.resume()

    def leave(self) -> None:
        """Let go of the program, which runs on."""
        if not self.tracee.ended and self.tracee.dying is None:
            try:
                if not self._is_held:
                    self.tracee.stop(time.monotonic() + HOLD_S)
                self._close()
                self.tracee.detach()
            except (CheckpointAbandoned, TraceeGone) as error:
                log.warning("the program was not let go in order", reason=error.what)
        else:
            self._close()
        self.tracee.close()

    def _close(self) -> None:
        if self._supply is not None:
            self._supply.close()
        if self._reception is not None:
            self._reception.close()
        self._supply = self._reception = None

    # ------------------------------------------------------------ what happens

    def _take(self, supply: Supply, now_s: float) -> None:
        abandoned = self.tracee.abandoned
        at_ns = time.time_ns()
        try:
            updates = supply.take(now_s)
        except TraceeGone:
            return  # Its end is told by `pump`.
        self.abandoned += self.tracee.abandoned - abandoned
        if self.tracee.abandoned == abandoned:
            self._captured(updates, at_ns)

    def _compare_own(self, now_s: float) -> float | None:
        """A mirror's program must leave its structures alone: look now and then whether it does."""
        if self._reception is None:
            return None
        if now_s >= self._compare_s:
            self._compare_s = now_s + COMPARE_S
            try:
                for refusal in self._reception.look_for_divergence():
                    self._refused(refusal)
            except TraceeGone:
                return None  # Its end is told by `pump`.
            except RestoreError as error:
                log.warning("a mirror's program can't be compared", reason=error.what, hint=error.hint)
        return self._compare_s

    def _take_last(self) -> None:
        if self._supply is None:
            return
        at_ns = time.time_ns()
        try:
            self._captured(self._supply.take_last(), at_ns)
        except (TraceeGone, KernelError) as error:
            log.warning("the last of the native structures could not be read", reason=error.what)

    def _happened(self, event: ProgramEvent) -> None:
        match event:
            case Dying():
                # What it wrote last is still there. After a crash of its own it may be anything.
                if event.kind in ("killed", "terminated") and not self._is_held:
                    self._take_last()
                self.tracee.release_dying()
            case Exited(status):
                self._close()
                self._ended(status)
            case Executed():
                self._close()
                self._refused(Refusal("", "lost", "the program has replaced itself (execve)", "start it anew"))
            case _:
                pass
