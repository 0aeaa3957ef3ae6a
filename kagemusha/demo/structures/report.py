"""What a run of the story found, and the JSON object that says it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["process_killed", "node_killed"]
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Takeover:
    """One takeover of one program, as its clients saw it.

    acknowledged: updates before it, of all its time. bytes_per_s: that its primary sent to its mirrors, under the load
    of the clients. full_bytes: of a whole copy of what is mirrored. sure: updates that the program had said are safe.
    beyond_staleness: some of the lost ones are older than the staleness that was reported covers.
    """

    program: str
    kind: Kind
    source: str
    target: str
    gap_ms: float
    staleness_reported_ms: float
    acknowledged: int
    lost: int
    beyond_staleness: bool
    sure: int
    sure_lost: int
    bytes_per_s: float
    full_bytes: int
    wrong: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        """The takeover as the JSON object shows it."""
        return {
            "program": self.program,
            "kind": self.kind,
            "gap_ms": round(self.gap_ms, 2),
            "staleness_reported_ms": round(self.staleness_reported_ms, 2),
            "updates_acknowledged": self.acknowledged,
            "updates_lost": self.lost,
            "bytes_per_s": round(self.bytes_per_s),
            "full_bytes": self.full_bytes,
        }

    def broken_promises(self) -> list[str]:
        """What it must keep and did not, each in one line."""
        name = f"{self.program}, {self.kind} {self.source} -> {self.target}"
        found = [f"{name}: {text}" for text in self.wrong]
        if self.beyond_staleness:
            found.append(f"{name}: updates older than the reported staleness were lost")
        if self.sure_lost:
            found.append(f"{name}: {self.sure_lost} updates were lost that had been said to be safe")
        return found


@dataclass(slots=True)
class Report:
    """A whole run; filled as it goes."""

    takeovers: list[Takeover] = field(default_factory=list)

    def broken_promises(self) -> list[str]:
        """What the run must keep and did not."""
        return [line for takeover in self.takeovers for line in takeover.broken_promises()]

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"programs": [takeover.public() for takeover in self.takeovers]})
