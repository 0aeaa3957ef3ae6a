"""Counters of what happens on a node between two looks at its metrics. Pure; they begin at 0 with the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster.metrics.table import MEASURES, Sample


@dataclass(slots=True)
class Spread:
    """A histogram. counts: by bucket, not cumulated; the last is of what no bucket has."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """One more."""
        place = next((place for place, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[place] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, float]]:
        """(upper bound, how many are not above it), as Prometheus wants it."""
        found, so_far = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


class Tally:
    """Names and labels as in the table, which is asked at every call. Raises KeyError for what is not in it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, tuple[str, ...]], float] = {}
        self.spreads: dict[tuple[str, tuple[str, ...]], Spread] = {}

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """It happened; `by` 0: it has not yet, and is told as 0."""
        if MEASURES[name].kind != "counter":
            raise ValueError(f"{name} is no counter")
        self._counts[name, labels] = self._counts.get((name, labels), 0.0) + by

    def observe(self, name: str, value: float, *labels: str) -> None:
        """One value of a histogram."""
        if (name, labels) not in self.spreads:
            self.spreads[name, labels] = Spread(MEASURES[name].buckets)
        self.spreads[name, labels].observe(value)

    def forget(self, program: str) -> None:
        """The program is no more; its name is the first label of whatever is counted of it."""
        for kept in (self._counts, self.spreads):
            for key in [key for key in kept if "program" in MEASURES[key[0]].labels and key[1][:1] == (program,)]:
                del kept[key]

    def samples(self) -> Iterator[Sample]:
        """All counters now."""
        return (Sample(name, value, labels) for (name, labels), value in self._counts.items())
