"""The messages between agents of a program whose named structures are mirrored: one stream, primary to mirror. Pure.

What may be sent when stands in docs/wire-protocol.md; `agent.warm.feed` and `agent.warm.intake` decide it. Kinds begin
at 32: an agent that mirrors whole processes refuses them at once, and the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from transport.checkpoint import Version
from transport.codec import Form, MessageSet
from transport.messages import Announce, Bye

PIECE_BYTES: Final = 1 << 20
"""Most bytes of `data` in one message."""
STRUCTURES_MAX: Final = 1024
"""Most structures of one program."""

Held = tuple[int, bytes]
"""Version and state (8 bytes) of a structure."""


@dataclass(frozen=True, slots=True)
class Join:
    """Mirror: send me the structures of `program`.

    instance, incarnation: see `messages.Subscribe`. holds: the newest mark that it holds. What it holds of each
    structure it says when that was declared (`Want`).
    """

    program: str
    instance: str
    incarnation: int
    holds: Version


@dataclass(frozen=True, slots=True)
class Declare:
    """Primary: there is a structure.

    native: a variable or a file, of which `lines` describe the layout; else an object of a program with the library.
    type: equal on both sides, or nothing is applied; for native ones the digest of the lines.
    """

    structure: str
    native: bool
    type: bytes
    type_text: str
    limit_bytes: int
    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Primary: a structure is not mirrored any more, for this reason."""

    structure: str
    reason: str


@dataclass(frozen=True, slots=True)
class Want:
    """Mirror: send me this structure; what I hold is version and state (0: nothing). Where that is not what the primary
    builds on, a whole copy is the answer."""

    structure: str
    version: int
    state: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """Primary: an update of a structure (base_version 0: a whole copy), with the first piece of its data.

    The words are those of docs/structures-protocol.md. age_us: how old the content is when this is sent.
    """

    structure: str
    token: int
    base_version: int
    base: bytes
    version: int
    state: bytes
    sum: bytes
    size: int
    age_us: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Primary: more data of the change before it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Primary: who has each structure at this version and state (or a later one that came before) holds `version`.

    captured_ns: CLOCK_REALTIME since when nothing newer was known. final: nothing follows under this token.
    """

    version: Version
    captured_ns: int
    holds: dict[str, Held]
    final: bool


@dataclass(frozen=True, slots=True)
class Reached:
    """Mirror: its program holds this mark, and every one before it."""

    version: Version


StructureMessage = Join | Declare | Withdraw | Want | Change | Piece | Mark | Reached | Announce | Bye

STRUCTURES: Final[MessageSet[StructureMessage]] = MessageSet(
    {
        32: Form(Join, 4096),
        33: Form(Declare, 8 << 20),
        34: Form(Withdraw, 8192),
        35: Form(Want, 8192),
        36: Form(Change, PIECE_BYTES + 4096),
        37: Form(Piece, PIECE_BYTES, raw=True),
        38: Form(Mark, 256 << 10),
        39: Form(Reached, 256),
        40: Form(Announce, 1 << 20),
        41: Form(Bye, 4096),
    }
)
