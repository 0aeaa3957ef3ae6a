"""Named structures of an instance made visible: which there are, and, where that is asked for, what is in one. Pure.

What is in one is the program's own data: it is for who may command the program, and never for a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

STRUCTURES_BYTES_MAX: Final = 8 << 20
CONTENT_BYTES_MAX: Final = 4 << 20
"""Of the content of a structure as JSON; what is longer is not sent, but said in `trouble`."""
ELEMENTS_DEFAULT: Final = 20
ELEMENTS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class GetStructures:
    """The reply is Structures. name: the one whose content is wanted, too; "": of none. elements: only so many of each
    array, the first ones."""

    name: str
    elements: int


@dataclass(frozen=True, slots=True)
class StructureView:
    """One structure. source: as the definition has it, "symbol g_sessions", or "program" for what the program itself
    names. size_bytes: of all of it, in memory; of an object of a Python program as its newest whole copy travels, where
    that is known, else 0. version: of its last update, 0 where there are none of its own.

    age_ms: of the content that is shown: since when something newer may be on the primary. None: there is no content.
    trouble: why it can't be found, mirrored or shown, "" when it can. content: JSON, "" where it was not asked for.
    """

    name: str
    source: str
    size_bytes: int
    version: int
    age_ms: float | None
    trouble: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Structures:
    """The structures of one instance, in the order of the definition."""

    program: str
    instance: str
    role: Literal["primary", "mirror"]
    structures: tuple[StructureView, ...]
