"""What a data structure is made of, as values: the part of a DWARF type that matters for copying and reading it. Pure.

Offsets and sizes are in bytes, from the beginning of the innermost thing around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Encoding = Literal["signed", "unsigned", "boolean", "float", "complex", "text", "bytes"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number or a character. name: of the base type in its source ("long double"), for what the size leaves open."""

    encoding: Encoding
    size: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An integer with named values, in the order of the source."""

    size: int
    is_signed: bool
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Array:
    """`count` elements without gaps; an array of several dimensions is one of arrays."""

    element: Layout
    count: int

    @property
    def size(self) -> int:
        return self.element.size * self.count


@dataclass(frozen=True, slots=True)
class Member:
    """A member, or a base class, of a record. name: "" of an anonymous one, whose members count as the record's own.

    bits: (first bit from `offset` on, number of bits) of a bit field; its type is that of the value.
    """

    name: str
    offset: int
    type: Layout
    bits: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A struct, class or union."""

    size: int
    members: tuple[Member, ...]
    is_union: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """What means something in its own process only. what: with its article, "a pointer", "a pthread_mutex_t"."""

    size: int
    what: str


@dataclass(frozen=True, slots=True)
class Excluded:
    """A member that the definition excludes: it is neither read nor written."""

    size: int


@dataclass(frozen=True, slots=True)
class Opaque:
    """Bytes of which nothing is known. build: of the file that they belong to; only the same one has the same layout.

    build "": the bytes of a file, which mean the same everywhere.
    """

    size: int
    build: str = ""


Layout: TypeAlias = Scalar | Enumeration | Array | Record | Bound | Excluded | Opaque
