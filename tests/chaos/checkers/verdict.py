"""What a checker finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. invariant: as docs/invariants.md numbers it."""

    invariant: str
    what: str


Checker = Callable[[Evidence], Iterator[Violation]]
