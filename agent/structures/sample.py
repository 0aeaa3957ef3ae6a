"""A structure as it was read between two checkpoints of its program: a value, on both sides."""

from __future__ import annotations

from dataclasses import dataclass

from agent.structures.blocks import Rows


@dataclass(frozen=True, slots=True)
class HeldSample:
    """The newest reading of one structure. version: of its updates. captured_ns: CLOCK_REALTIME of the primary. rows:
    all blocks; the next reading changes them."""

    structure: str
    version: int
    captured_ns: int
    size: int
    rows: Rows

    @property
    def content(self) -> bytes:
        """Its bytes as they are now; those that are not carried are zeros."""
        return self.rows.tobytes()[: self.size]
