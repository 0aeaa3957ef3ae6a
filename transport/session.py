"""A mirror's side of the stream: what it accepts, refuses, acknowledges and may apply. A step machine, pure.

A checkpoint goes through three hands. Parts are *staged* as they come (a full transfer writes into a blank shadow).
At its End everything is verified: it follows what is held, nothing is missing, every checksum holds, and a delta's
history has the digest that the primary gave it. Only then it is *committed*: the performer may apply it, and tells when
it has. Half a checkpoint is never committed.

After a refusal the session tells the primary once from where to go on, and is deaf until a union or a full transfer
begins that can be accepted, which is the primary's answer: deltas were already under way when it was told.

Memory: the primary has at most CREDIT checkpoints unacknowledged, and whatever acknowledges one (also Subscribe and
Refuse, which say what is held) is held back while more than BACKLOG committed ones wait to be applied; so at most
CREDIT + BACKLOG encoded checkpoints are kept here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from transport.checkpoint import NOTHING, Header, Version, chain_digest, combined_sum
from transport.counters import Counters, Reason
from transport.delta import PAGE_MAGIC, RECORDS_MAGIC, verify_part
from transport.errors import CorruptUpdate
from transport.messages import (
    Ack,
    Announce,
    Begin,
    Bye,
    End,
    Pages,
    Place,
    RecordsMessage,
    Refuse,
    Sample,
    SampleHeld,
    StreamMessage,
    Subscribe,
)

BACKLOG: Final = 2
"""Committed checkpoints that may wait to be applied before acknowledgements are held back."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Event: there is a connection to the primary. token: its fencing token, as the controller gave it."""

    token: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """Event: the connection ended, or the link refused what came over it (and counted it)."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Event: the committed checkpoint `version` is in the shadow."""

    version: Version


@dataclass(frozen=True, slots=True)
class ApplyFailed:
    """Event: the committed checkpoint `version` could not be applied; the shadow is worth nothing now."""

    version: Version
    reason: str


@dataclass(frozen=True, slots=True)
class StageFailed:
    """Event: a part of the checkpoint under way could not be staged.

    damaged: what the shadow already holds is in doubt too (a base has another checksum): only a full transfer helps.
    """

    reason: str
    damaged: bool


SessionEvent = StreamMessage | Connected | Disconnected | Applied | ApplyFailed | StageFailed


@dataclass(frozen=True, slots=True)
class SendSubscribe:
    """Effect: ask the primary for the stream, from `holds` on."""

    holds: Version


@dataclass(frozen=True, slots=True)
class StartOver:
    """Effect: a full transfer begins: make a blank shadow.

    What was held is applicable no more, and what was committed but not applied yet is to be thrown away.
    """

    header: Header


@dataclass(frozen=True, slots=True)
class Stage:
    """Effect: keep this part, whose checksum is right, and reserve what its application needs.

    direct: write it into the blank shadow at once (pages of a full transfer; later parts overwrite earlier ones; the
    records before them say which mappings they need).
    """

    part: Pages | RecordsMessage
    direct: bool


@dataclass(frozen=True, slots=True)
class Discard:
    """Effect: throw away the parts staged since the last Commit.

    blank: they belonged to a full transfer; the shadow that they went into is worth nothing.
    """

    blank: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """Effect: the parts staged since the last Commit are a complete, verified checkpoint: apply it, say Applied."""

    header: Header


@dataclass(frozen=True, slots=True)
class SendAck:
    """Effect: acknowledge `version`. Comes after its Commit: what it needs is reserved."""

    version: Version


@dataclass(frozen=True, slots=True)
class SendRefuse:
    """Effect: send `messages.Refuse`."""

    holds: Version
    reason: str


@dataclass(frozen=True, slots=True)
class Resync:
    """Effect: nothing of what is held can be built upon; a full transfer will come.

    What was committed but not applied yet is to be thrown away; for the log and the status, too.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Connections:
    """Effect: the primary's program opened and closed these connections (see `messages.Announce`)."""

    announced: Announce


@dataclass(frozen=True, slots=True)
class Sampled:
    """Effect: keep this of a named structure, beside the shadow: it says itself which checkpoint it follows."""

    message: Place | Sample


@dataclass(frozen=True, slots=True)
class Close:
    """Effect: close the connection to the primary; try another one later."""

    reason: str


SessionEffect = (
    SendSubscribe | StartOver | Stage | Discard | Commit | SendAck | SendRefuse | Resync | Connections | Sampled | Close
)


class MirrorSession:
    """Follows the stream of one program, over as many connections as it takes. Effects are to be performed in order."""

    def __init__(self, program: str, token: int, counters: Counters | None = None, holds: Version = NOTHING) -> None:
        """`token`: the lowest that is accepted. `holds`: what is in the shadow already, complete and verified."""
        self.counters = counters if counters is not None else Counters()
        self._program = program
        self._token = max(token, holds.token)
        self._tip = holds
        self._applied = holds
        self._last_ns: int | None = None
        self._last: Header | None = None
        self._deaf = False
        self._open: Header | None = None
        self._sums: list[int] = []
        self._parts = [0, 0]
        self._unapplied: deque[Version] = deque()
        self._unacknowledged: deque[Version] = deque()
        self._owed: SendSubscribe | SendRefuse | None = None

    @property
    def token(self) -> int:
        """The highest fencing token that is known here; a checkpoint with a lower one is refused."""
        return self._token

    @property
    def holds(self) -> Version:
        """The newest checkpoint that is complete and verified, applied or about to be."""
        return self._tip

    @property
    def applied(self) -> Version:
        """The checkpoint that is in the shadow; NOTHING while a full transfer is under way or when all is in doubt."""
        return self._applied

    @property
    def last(self) -> Header | None:
        """The header of the newest verified checkpoint: the mirror's staleness counts from its `captured_ns`."""
        return self._last

    @property
    def last_heard_ns(self) -> int | None:
        """When anything came from the primary, by the clock that is given to `step`."""
        return self._last_ns

    def step(self, now_ns: int, event: SessionEvent) -> list[SessionEffect]:
        """Take in one event; return what is to be done, in this order. `now_ns`: any clock that does not go back."""
        if isinstance(event, Connected):
            self._deaf = False
            self._token = max(self._token, event.token)
            return [*self._discard(), *self._say(SendSubscribe(self._tip))]
        if isinstance(event, Disconnected):
            # Held back acknowledgements are not lost: the next Subscribe says what is held.
            self._unacknowledged.clear()
            self._owed = None
            return self._discard()
        if isinstance(event, Applied):
            return self._was_applied(event.version)
        if isinstance(event, ApplyFailed):
            if event.version not in self._unapplied:
                return []
            return self._refuse(Reason.FAILED_APPLY, f"{event.version}: {event.reason}", damaged=True)
        if isinstance(event, StageFailed):
            if self._open is None:
                return []
            return self._refuse(Reason.FAILED_APPLY, event.reason, damaged=event.damaged)
        self._last_ns = now_ns
        return self._message(event)

    def _message(self, message: StreamMessage) -> list[SessionEffect]:
        if isinstance(message, Begin):
            return self._begin(message.header)
        if isinstance(message, Pages | RecordsMessage):
            return self._part(message)
        if isinstance(message, End):
            return self._end(message)
        if isinstance(message, Announce):
            return [Connections(message)]
        if isinstance(message, Place | Sample):
            return self._sampled(message)
        if isinstance(message, Bye):
            return [*self._discard(), Close(message.reason)]
        self._never_from_a_primary(message)
        return [*self._discard(), Close(f"a primary does not send {type(message).__name__}")]

    def _sampled(self, message: Place | Sample) -> list[SessionEffect]:
        if isinstance(message, Sample) and message.follows.token < self._token:
            self.counters.count(Reason.STALE_TOKEN)
            return []
        return [Sampled(message)]

    def _never_from_a_primary(self, message: Subscribe | Ack | Refuse | SampleHeld) -> None:
        self.counters.count(Reason.UNEXPECTED)

    def _begin(self, header: Header) -> list[SessionEffect]:
        if header.program != self._program:
            self.counters.count(Reason.UNEXPECTED)
            return [*self._discard(), Close(f"a checkpoint of {header.program} came, {self._program} is mirrored here")]
        if header.version.token < self._token:
            self.counters.count(Reason.STALE_TOKEN)
            return [*self._discard(), Close(f"checkpoint {header.version} is of an older token than {self._token}")]
        if not self._follows(header):
            # Deaf: it was under way when the refusal went out, and counts with it.
            text = f"checkpoint {header.version} builds on {header.base}; {self._tip} is held"
            return [] if self._deaf else self._refuse(Reason.WRONG_BASE, text)
        if self._deaf and header.kind == "delta":
            return []
        if self._open is not None:
            return self._refuse(Reason.UNEXPECTED, f"{header.version} begins before {self._open.version} has ended")
        self._deaf, self._owed = False, None
        self._token = header.version.token
        self._open, self._sums, self._parts = header, [], [0, 0]
        if header.kind != "full":
            return []
        self._tip = self._applied = NOTHING
        self._unapplied.clear()
        self._unacknowledged.clear()
        return [StartOver(header)]

    def _follows(self, header: Header) -> bool:
        """Is this checkpoint one that can be applied to what is held?"""
        if header.kind == "full":
            return header.base == NOTHING
        return header.base == self._tip != NOTHING and header.version.number > header.base.number

    def _part(self, message: Pages | RecordsMessage) -> list[SessionEffect]:
        if self._deaf:
            return []
        if self._open is None:
            return self._refuse(Reason.UNEXPECTED, "a part came before its checkpoint began")
        is_records = isinstance(message, RecordsMessage)
        try:
            self._sums.append(verify_part(message.part, RECORDS_MAGIC if is_records else PAGE_MAGIC))
        except CorruptUpdate as error:
            return self._refuse(Reason.CORRUPT, error.what)
        self._parts[is_records] += 1
        return [Stage(message, direct=self._open.kind == "full" and not is_records)]

    def _end(self, end: End) -> list[SessionEffect]:
        if self._deaf:
            return []
        if self._open is None:
            return self._refuse(Reason.UNEXPECTED, "a checkpoint ended before it began")
        wrong = self._wrong_end(self._open, end)
        if wrong is not None:
            return self._refuse(*wrong)
        version = end.header.version
        self._open = None
        self._tip, self._last = version, end.header
        self._unapplied.append(version)
        self._unacknowledged.append(version)
        return [Commit(end.header), *self._acknowledge()]

    def _wrong_end(self, begun: Header, end: End) -> tuple[Reason, str] | None:
        """Return why this is not the end of a complete checkpoint, or None."""
        header = end.header
        version = header.version
        if begun.kind == "full":
            same = (begun.program, begun.base, begun.kind) == (header.program, header.base, header.kind)
            same = same and version.token == begun.version.token and version.number >= begun.version.number
        else:
            same = begun == header
        if not same:
            return Reason.INCOMPLETE, f"{begun.version} ends as {version}"
        if [header.parts, end.records] != self._parts or end.records < 1:
            came = f"{self._parts[0]} page parts and {self._parts[1]} records parts"
            return Reason.INCOMPLETE, f"{version} has {header.parts} and {end.records} parts; there came {came}"
        if combined_sum(self._sums) != end.sum:
            return Reason.CORRUPT, f"the parts of {version} have together another checksum than its end says"
        if begun.kind == "delta":
            # A delta's parts come in the order that its digest was made in: pages, then records.
            pages, records = self._sums[: header.parts], combined_sum(self._sums[header.parts :])
            if chain_digest(header.base, version.token, version.number, pages, records) != version.digest:
                return Reason.CORRUPT, f"the history of {version} has another digest"
        return None

    def _acknowledge(self) -> list[SessionEffect]:
        """Acknowledge what may be: all but as many of the newest as are too far behind in being applied."""
        allowed = len(self._unacknowledged) - max(0, len(self._unapplied) - BACKLOG)
        return [SendAck(self._unacknowledged.popleft()) for _ in range(allowed)]

    def _was_applied(self, version: Version) -> list[SessionEffect]:
        if version not in self._unapplied:
            return []
        while self._unapplied.popleft() != version:
            pass
        self._applied = version
        owed, self._owed = self._owed, None
        return self._acknowledge() if owed is None else self._say(owed)

    def _say(self, effect: SendSubscribe | SendRefuse) -> list[SessionEffect]:
        """Say what is held, now or when the backlog of what is to be applied is short enough."""
        if len(self._unapplied) > BACKLOG:
            self._owed = effect
            return []
        self._owed = None
        return [effect]

    def _refuse(self, reason: Reason, text: str, damaged: bool = False) -> list[SessionEffect]:
        """Refuse the checkpoint under way, once, and be deaf to what builds on it."""
        self.counters.count(reason)
        effects: list[SessionEffect] = [*self._discard()]
        self._deaf = True
        self._unacknowledged.clear()
        if damaged:
            self._tip = self._applied = NOTHING
            self._unapplied.clear()
        if self._tip == NOTHING:
            effects.append(Resync(text))
        if isinstance(self._owed, SendSubscribe):
            self._owed = None
            return [*effects, *self._say(SendSubscribe(self._tip))]
        return [*effects, *self._say(SendRefuse(self._tip, text[:500]))]

    def _discard(self) -> list[SessionEffect]:
        """Throw away the half of a checkpoint that is here."""
        if self._open is None:
            return []
        blank = self._open.kind == "full"
        self._open = None
        return [Discard(blank)]
