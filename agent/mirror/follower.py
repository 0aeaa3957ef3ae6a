"""Performs what a mirror's session decides: stages and applies checkpoints to the shadow.

Lives in the tracer thread, because a shadow is a tracee. An acknowledgement goes out before the checkpoint is applied:
what it needs is verified and reserved by then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from agent.errors import CaptureError, KernelError, RestoreError, TraceeGone
from agent.kernel.vm import Contents
from agent.memory.page_ranges import Pages
from agent.mirror.samples_held import SamplesHeld
from agent.mirror.staging import Staging
from agent.network.newcomers import Newcomers
from agent.structures.sample import HeldSample
from transport.checkpoint import Header, Records, Version
from transport.counters import Reason
from transport.delta import RecordsPart
from transport.errors import CorruptUpdate, PreflightError, StaleUpdate
from transport.messages import (
    Ack,
    Announce,
    Begin,
    Connection,
    Place,
    RecordsMessage,
    Refuse,
    Sample,
    SampleHeld,
    StreamMessage,
    Subscribe,
)
from transport.messages import Pages as PagesMessage
from transport.session import (
    Applied,
    ApplyFailed,
    Close,
    Commit,
    Connections,
    Discard,
    MirrorSession,
    Resync,
    Sampled,
    SendAck,
    SendRefuse,
    SendSubscribe,
    SessionEffect,
    SessionEvent,
    Stage,
    StageFailed,
    StartOver,
)

log = structlog.get_logger()

_OPENED_MAX = 65_536
_STAGE_ERRORS = (CorruptUpdate, CaptureError, RestoreError, KernelError, TraceeGone)


class Double(Protocol):
    """The shadow as a follower sees it."""

    def adapt(self, records: Records) -> None:
        """Take over the mappings of `records`; before the pages that need them."""

    def prepare(self, records: Records) -> None:
        """Make ahead of a takeover all that can be made; after the pages."""

    def read_pages(self, pages: Pages, out: Contents) -> None:
        """Fill the rows of `out`; pages that are not mapped read as zeros."""

    def write_pages(self, pages: Pages, contents: Contents) -> None:
        """Write pages; those that are not mapped are passed over."""

    @property
    def pid(self) -> int:
        """Host pid of the shadow."""

    def destroy(self) -> None:
        """End the shadow's process."""


class Outgoing(Protocol):
    """Where a follower's answers go; called in the tracer thread, must return at once."""

    def send(self, message: StreamMessage) -> None:
        """Send to the primary."""

    def hang_up(self, reason: str) -> None:
        """Close the connection to the primary."""


@dataclass(slots=True)
class SyncProgress:
    """How far the first transfer is: pages written, pages expected, since when (CLOCK_MONOTONIC seconds)."""

    pages: int = 0
    total: int = 0
    started_s: float = 0.0
    done: bool = False


@dataclass(slots=True)
class Held:
    """What the shadow holds. opened: connections that clients have opened and not closed since it was begun, as
    announced, the oldest first: those that the program has not accepted yet are in no checkpoint. newcomers: who may
    have come unannounced."""

    records: Records = field(default_factory=dict)
    header: Header | None = None
    opened: dict[Connection, None] = field(default_factory=dict)
    newcomers: Newcomers = field(default_factory=Newcomers)

    def announced(self, announcement: Announce) -> None:
        """Take in what a primary tells of its clients."""
        self.opened.update(dict.fromkeys(announcement.opened))
        self.newcomers.heard(announcement.opened, time.monotonic() * 1000)
        for connection in announcement.closed:
            self.opened.pop(connection, None)
        while len(self.opened) > _OPENED_MAX:
            del self.opened[next(iter(self.opened))]


def _nothing() -> None:
    pass


class Follower:
    """One mirror.

    make_double: builds a blank shadow out of a program's first records. mirrored: told of each checkpoint applied.
    hopeless: told when this node can't mirror the program at all; nothing is done any more then. independent: the names
    of structures that a takeover goes on from as they were read last.
    """

    def __init__(
        self,
        session: MirrorSession,
        instance: str,
        incarnation: int,
        program: str,
        staging: Staging,
        make_double: Callable[[Records], Double],
        outgoing: Outgoing,
        mirrored: Callable[[Header], None],
        hopeless: Callable[[PreflightError], None],
        independent: Collection[str] = (),
    ) -> None:
        self.session = session
        self.held = Held()
        self.samples = SamplesHeld(independent)
        self.progress = SyncProgress()
        self.double: Double | None = None
        self.resyncs = 0
        self.applied = 0
        self.bytes = 0
        self._instance = instance
        self._incarnation = incarnation
        self._program = program
        self._staging = staging
        self._make_double = make_double
        self._outgoing = outgoing
        self._mirrored = mirrored
        self._hopeless = hopeless
        self._staged_records: list[RecordsPart] = []
        self._full = False
        self._retired = False
        self._overtaken: Callable[[], None] = _nothing
        self._commits: deque[Header] = deque()

    @property
    def version(self) -> Version:
        """The checkpoint that is in the shadow, complete and verified."""
        return self.session.applied

    def event(self, event: SessionEvent) -> None:
        """Take in one message of the primary, or a change of the connection."""
        if self._retired:
            if isinstance(event, Begin):
                self._overtaken()
            return
        self._perform(self.session.step(time.monotonic_ns(), event))
        while self._commits:
            header = self._commits.popleft()
            try:
                self._apply(header)
            except _STAGE_ERRORS as error:
                log.error("a checkpoint could not be applied", version=str(header.version), reason=error.what)
                self._perform(self.session.step(time.monotonic_ns(), ApplyFailed(header.version, error.what)))
            else:
                self._perform(self.session.step(time.monotonic_ns(), Applied(header.version)))
                self._mirrored(header)

    def redirect(self, outgoing: Outgoing) -> None:
        """Send answers there from now on: another primary is followed."""
        self._outgoing = outgoing

    def retire(self, overtaken: Callable[[], None] | None = None) -> None:
        """The shadow is about to be activated: nothing that comes from a primary may touch it any more. overtaken:
        called when a primary sends another checkpoint all the same."""
        self._retired = True
        self._overtaken = overtaken or _nothing

    def settle(self) -> list[HeldSample]:
        """Write into a shadow that is about to be activated what is newer of independent structures; gives them.

        Raises RestoreError, KernelError, TraceeGone; the shadow is worth nothing then.
        """
        return self.samples.settle(self._shadow(), self.version)

    def destroy(self) -> None:
        """End the shadow."""
        if self.double is not None:
            self.double.destroy()
            self.double = None

    def _perform(self, effects: list[SessionEffect]) -> None:
        pending = deque(effects)
        while pending:
            effect = pending.popleft()
            try:
                self._one(effect)
            except PreflightError as error:
                self.retire()
                self.destroy()
                self._hopeless(error)
                return
            except _STAGE_ERRORS as error:
                damaged = isinstance(error, CorruptUpdate) or self._full
                log.error("a part could not be staged", reason=error.what, damaged=damaged)
                pending.extend(self.session.step(time.monotonic_ns(), StageFailed(error.what, damaged)))

    def _one(self, effect: SessionEffect) -> None:
        match effect:
            case SendSubscribe(holds):
                self._outgoing.send(Subscribe(self._program, self._instance, self._incarnation, holds))
            case StartOver(header):
                self._start_over(header)
            case Stage(part, _):
                self._stage(part)
            case Discard(blank):
                self._discard(blank=blank)
            case Commit(header):
                self._commits.append(header)
            case SendAck(version):
                self._outgoing.send(Ack(version))
            case SendRefuse(holds, reason):
                self._outgoing.send(Refuse(holds, reason))
            case Resync(reason):
                self.resyncs += 1
                self._commits.clear()
                log.warning("a full transfer is needed", reason=reason)
            case Connections(announced):
                self.held.announced(announced)
            case Sampled(message):
                self._sampled(message)
            case Close(reason):
                self._outgoing.hang_up(reason)

    def _sampled(self, message: Place | Sample) -> None:
        fits = False
        try:
            if isinstance(message, Place):
                self.samples.place(message)
                return
            fits = self.samples.take(message)
        except (CorruptUpdate, StaleUpdate) as error:
            damaged = isinstance(error, CorruptUpdate)
            self.session.counters.count(Reason.CORRUPT if damaged else Reason.WRONG_BASE)
            log.warning("a sample of a structure is not held", structure=message.structure, reason=error.what)
        if isinstance(message, Sample):
            self._outgoing.send(SampleHeld(message.structure, message.number, fits))

    def _start_over(self, header: Header) -> None:
        self.destroy()
        self.samples.clear()
        self.held = Held()
        self._full = True
        self._commits.clear()
        self._staging.clear()
        self._staged_records.clear()
        self.progress = SyncProgress(0, header.pages, time.monotonic())

    def _stage(self, message: PagesMessage | RecordsMessage) -> None:
        self.bytes += len(message.part)
        if isinstance(message, RecordsMessage):
            part = RecordsPart.decode(message.part)
            if self._full:
                self._build(part)
            else:
                self._staged_records.append(part)
            return
        self.progress.pages += self._staging.add(message.part, self._read)
        if self._full:
            self._write()

    def _build(self, part: RecordsPart) -> None:
        """A full transfer's records are taken over at once: its pages need their mappings."""
        self.held.records = part.apply(self.held.records)
        if self.double is None:
            self.double = self._make_double(self.held.records)
        else:
            self.double.adapt(self.held.records)

    def _read(self, pages: Pages, out: Contents) -> None:
        self._shadow().read_pages(pages, out)

    def _write(self) -> None:
        self._shadow().write_pages(*self._staging.pages())
        self._staging.clear()

    def _discard(self, *, blank: bool) -> None:
        self._staging.clear()
        self._staged_records.clear()
        if blank:
            self.destroy()
            self.samples.clear()
            self.held = Held()
            self._full = False

    def _apply(self, header: Header) -> None:
        records = self.held.records
        for part in self._staged_records:
            records = part.apply(records)
        double = self._shadow()
        double.adapt(records)
        self._write()
        double.prepare(records)
        self._staged_records.clear()
        self._full = False
        self.applied += 1
        self.progress.done = True
        self.held.records = records
        self.held.header = header

    def _shadow(self) -> Double:
        if self.double is None:
            raise RestoreError("pages came before the records that a shadow is built by")
        return self.double
