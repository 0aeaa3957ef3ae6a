"""The messages between agents: one stream of checkpoints from a primary to a mirror. Pure.

What may be sent when stands in docs/wire-protocol.md; `transport.pubsub` and `transport.session` decide it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from transport.checkpoint import PAGE_BYTES, PART_PAGES, Header, Version
from transport.codec import Form, MessageSet
from transport.frame import BODY_BYTES_MAX

PLACE_BYTES_MAX: Final = 1 << 20
EXTENTS_MAX: Final = 32_768
"""Most pieces of one structure: they fit into a `Place`."""
SAMPLED_BYTES_MAX: Final = PART_PAGES * PAGE_BYTES
"""Most bytes of a structure that is read between checkpoints: it is one part, whole, and fits into a `Sample`."""

Connection = tuple[str, int, str, int]
"""A TCP connection of a program: its own address and port, the client's address and port."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Mirror: send me the checkpoints of `program`; what I hold, complete and verified, is `holds`.

    instance: `<program>@<node>`. incarnation: rises with every start of the mirror's agent: one that was started
    again has lost its memory and is another subscriber.
    """

    program: str
    instance: str
    incarnation: int
    holds: Version


@dataclass(frozen=True, slots=True)
class Begin:
    """Primary: a checkpoint begins; its parts follow."""

    header: Header


@dataclass(frozen=True, slots=True)
class Pages:
    """Primary: one page part (`delta.PagePartEncoder`) of the checkpoint that has begun."""

    part: bytes


@dataclass(frozen=True, slots=True)
class RecordsMessage:
    """Primary: one records part (`delta.RecordsPart`) of the checkpoint that has begun."""

    part: bytes


@dataclass(frozen=True, slots=True)
class End:
    """Primary: that was all.

    header: as at the beginning, except in a full transfer, which knows only now where it leads. records: how many
    records parts; sum: `combined_sum` of the checksums of all parts of pages and records, in the order sent.
    """

    header: Header
    records: int
    sum: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Mirror: `version` is here, complete and verified. Acknowledges everything before it too."""

    version: Version


@dataclass(frozen=True, slots=True)
class Refuse:
    """Mirror: the checkpoint under way is refused; go on from `holds` (acknowledged hereby; NOTHING: a full one)."""

    holds: Version
    reason: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Primary: connections that the program accepted or closed since the last checkpoint, told at once."""

    opened: tuple[Connection, ...]
    closed: tuple[Connection, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Primary: where a named structure lies that is read between checkpoints, too; a whole `Sample` of it follows.

    extents: which bytes of it count, from its beginning on: (first, end), ascending and apart, within `size`.
    """

    structure: str
    address: int
    size: int
    extents: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Primary: what was in a named structure when it was read after checkpoint `follows` and before the next one.

    number: rises with every sample of a primary, whatever structure. captured_ns: CLOCK_REALTIME. base_version 0: a
    whole copy; the same as `version`: nothing has changed, and `data` is empty. The other words, and the data, are
    those of docs/structures-protocol.md.
    """

    structure: str
    follows: Version
    number: int
    captured_ns: int
    base_version: int
    base: bytes
    version: int
    state: bytes
    sum: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class SampleHeld:
    """Mirror: sample `number` has come. fits: it is held; if not, what is held is not what it builds on, and a whole
    copy is wanted."""

    structure: str
    number: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Bye:
    """Either side: the connection ends now, for this reason."""

    reason: str


StreamMessage = (
    Subscribe | Begin | Pages | RecordsMessage | End | Ack | Refuse | Announce | Bye | Place | Sample | SampleHeld
)

STREAM: Final[MessageSet[StreamMessage]] = MessageSet(
    {
        1: Form(Subscribe, 4096),
        2: Form(Begin, 4096),
        3: Form(Pages, BODY_BYTES_MAX, raw=True),
        4: Form(RecordsMessage, BODY_BYTES_MAX, raw=True),
        5: Form(End, 4096),
        6: Form(Ack, 256),
        7: Form(Refuse, 4096),
        8: Form(Announce, 1 << 20),
        9: Form(Bye, 4096),
        10: Form(Place, PLACE_BYTES_MAX),
        11: Form(Sample, BODY_BYTES_MAX),
        12: Form(SampleHeld, 4096),
    }
)
