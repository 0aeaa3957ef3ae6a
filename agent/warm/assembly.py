"""Updates cut into pieces and put together again, with a limit before anything is read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from agent.structures.update import Update
from transport.errors import FrameError
from transport.structure_messages import PIECE_BYTES, Change, Piece, StructureMessage

SIZE_BYTES_MAX: Final = 128 << 30
"""No structure is larger, whatever its own limit is (`size_mib_max`, twice for an update)."""


@dataclass(frozen=True, slots=True)
class Aged:
    """A complete update. age_us: how old its content was when it came."""

    update: Update
    age_us: int


@dataclass(slots=True)
class _Begun:
    update: Update
    age_us: int
    size: int
    is_wanted: bool
    have: int = 0
    pieces: list[bytes] = field(default_factory=list)


class Assembly:
    """Of one direction of one connection: one update at a time, its pieces in order."""

    def __init__(self) -> None:
        self._begun: _Begun | None = None

    def begin(self, update: Update, age_us: int, size: int, data: bytes, limit_bytes: int) -> Aged | None:
        """The first piece of an update of `size` bytes; `update` without its data. The update, when that is all of it.

        limit_bytes: of the structure; what is above (an update: above twice) is passed over, piece by piece.
        Raises FrameError where the one before it is not complete.
        """
        if self._begun is not None:
            raise FrameError(
                f"an update of {update.structure} begins before that of {self._begun.update.structure} ends"
            )
        fits = 0 <= size <= min(limit_bytes * (1 if update.is_whole else 2), SIZE_BYTES_MAX)
        self._begun = _Begun(update, age_us, size, fits)
        return self.more(data)

    def more(self, data: bytes) -> Aged | None:
        """A further piece; the update, when that was the last. Raises FrameError for more than was said."""
        begun = self._begun
        if begun is None or begun.have + len(data) > begun.size:
            raise FrameError("there is more of an update than it said")
        begun.have += len(data)
        if begun.is_wanted:
            begun.pieces.append(data)
        if begun.have < begun.size:
            return None
        self._begun = None
        return Aged(replace(begun.update, data=b"".join(begun.pieces)), begun.age_us) if begun.is_wanted else None


def pieces_of(data: bytes) -> Iterator[bytes]:
    """At least one piece, none above PIECE_BYTES."""
    yield data[:PIECE_BYTES]
    for at in range(PIECE_BYTES, len(data), PIECE_BYTES):
        yield data[at : at + PIECE_BYTES]


def change_messages(update: Update, age_us: int) -> tuple[StructureMessage, ...]:
    """An update as what travels between agents."""
    first, *others = pieces_of(update.data)
    head = Change(
        update.structure,
        update.token,
        update.base_version,
        update.base,
        update.version,
        update.state,
        update.sum,
        len(update.data),
        age_us,
        first,
    )
    return (head, *map(Piece, others))


def begun(assembly: Assembly, change: Change, limit_bytes: int) -> Aged | None:
    """Take the first message of an update; see `Assembly.begin`."""
    head = Update(
        change.structure, change.token, change.base_version, change.base, change.version, change.state, change.sum, b""
    )
    return assembly.begin(head, change.age_us, change.size, change.data, limit_bytes)
