"""What agents tell each other, and people, of native structures: values only (docs/structures-protocol.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from agent.structures.finding import Structure
from agent.structures.shape import Line
from transport.errors import KagemushaError

Code = Literal["unknown-structure", "type-mismatch", "too-large", "not-mirrorable", "stale-token", "diverged", "lost"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A structure as one side has it. digest: of its lines; equal ones mean equal layouts."""

    structure: str
    digest: str
    lines: tuple[Line, ...]
    size: int

    @classmethod
    def of(cls, structure: Structure) -> Self:
        return cls(structure.name, structure.digest, structure.lines, structure.size)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something of one structure that can't be done; the others go on. what, hint: one line each, for people."""

    structure: str
    code: Code
    what: str
    hint: str = ""

    @classmethod
    def of(cls, structure: str, code: Code, error: KagemushaError) -> Self:
        return cls(structure, code, error.what, error.hint)


@dataclass(frozen=True, slots=True)
class Resync:
    """A mirror needs a whole copy; it holds `version` (0: none)."""

    structure: str
    version: int
    state: bytes
    reason: str
