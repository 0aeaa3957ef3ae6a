"""I13 over time: what a process has open, keeps in memory and has under way is no more after hours than at first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import NS_PER_S, Evidence, Sample

WARM_S: Final = 120
"""What a process takes at its beginning is no growth."""
LONG_S: Final = 600
"""A process that was looked at for less, after that, is not judged."""
OF_THE_PROGRAM: Final = "program"
"""What it keeps is its own, and not judged."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that may grow. of: None, where nobody could see it. most: by how much it may, by role ("": any)."""

    name: str
    of: Callable[[Sample], float | None]
    most: Mapping[str, float]

    def may_grow_by(self, role: str) -> float:
        """For a process of this role."""
        return self.most.get(role, self.most[""])


QUANTITIES: Final = (
    Quantity("descriptors", lambda one: one.descriptors - one.owed, {"": 12}),
    Quantity("MiB of memory", lambda one: one.resident_kib / 1024, {"": 32, "agent": 64}),
    Quantity("threads", lambda one: one.threads, {"": 4}),
    Quantity("tasks", lambda one: one.tasks, {"": 16}),
)


@dataclass(frozen=True, slots=True)
class Course:
    """How one quantity went. first, last: the median of the first and of the last quarter of the time."""

    quantity: Quantity
    first: float
    last: float
    most: float

    @property
    def grown(self) -> float:
        """By how much it is more in the end."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class Life:
    """What was seen of one process while it was warm. since_s: from the first look at anything."""

    node: str
    role: str
    pid: int
    since_s: float
    for_s: float
    courses: tuple[Course, ...]


def lives(evidence: Evidence) -> list[Life]:
    """Of all processes that were looked at for long enough, by node and role."""
    begun_ns = min((one.at_ns for one in evidence.samples), default=0)
    of_each: dict[tuple[str, str, int], list[Sample]] = {}
    for one in evidence.samples:
        of_each.setdefault((one.node, one.role, one.pid), []).append(one)
    found = []
    for (node, role, pid), samples in sorted(of_each.items()):
        warm = [one for one in samples if one.at_ns >= samples[0].at_ns + WARM_S * NS_PER_S]
        for_s = (warm[-1].at_ns - warm[0].at_ns) / NS_PER_S if warm else 0.0
        if for_s >= LONG_S:
            courses = tuple(course for quantity in QUANTITIES if (course := _course(quantity, warm)) is not None)
            found.append(Life(node, role, pid, (samples[0].at_ns - begun_ns) / NS_PER_S, for_s, courses))
    return found


def _course(quantity: Quantity, warm: Sequence[Sample]) -> Course | None:
    values = [value for one in warm if (value := quantity.of(one)) is not None]
    quarter = max(len(values) // 4, 1)
    if not values:
        return None
    return Course(quantity, median(values[:quarter]), median(values[-quarter:]), max(values))


def nothing_grows(evidence: Evidence) -> Iterator[Violation]:
    """No process that lives for long has more and more."""
    for life in lives(evidence):
        for course in life.courses if life.role != OF_THE_PROGRAM else ():
            if course.grown > course.quantity.may_grow_by(life.role):
                had = f"had {course.first:.0f} {course.quantity.name} at first and {course.last:.0f} in the end"
                yield Violation(
                    "I13", f"the {life.role} of node {life.node} {had}, {life.for_s / 60:.0f} minutes later"
                )
