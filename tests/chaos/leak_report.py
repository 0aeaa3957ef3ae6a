"""What long-lived processes had, and by how much it grew: for people, and as JSON (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.chaos.checkers.growth import Course, Life

_S_PER_HOUR = 3600.0


def report_lines(lives: Sequence[Life]) -> Iterator[str]:
    """A table; nothing for no lives."""
    if lives:
        yield f"{'node':4} {'role':9} {'minutes':>7}  {'what':13} {'first':>8} {'last':>8} {'most':>8} {'an hour':>8}"
    for life in lives:
        for course in life.courses:
            numbers = (course.first, course.last, course.most, _an_hour(course, life))
            about = f"{life.node:4} {life.role:9} {life.for_s / 60:7.0f}  {course.quantity.name:13}"
            yield f"{about} {' '.join(f'{number:8.1f}' for number in numbers)}"


def report(lives: Sequence[Life]) -> list[dict[str, Any]]:
    """The same as JSON: one object for each process."""
    return [
        {
            "node": life.node,
            "role": life.role,
            "minutes": round(life.for_s / 60, 1),
            **{course.quantity.name: _numbers(course, life) for course in life.courses},
        }
        for life in lives
    ]


def _numbers(course: Course, life: Life) -> dict[str, float]:
    return {
        "first": round(course.first, 1),
        "last": round(course.last, 1),
        "most": round(course.most, 1),
        "an_hour": round(_an_hour(course, life), 2),
    }


def _an_hour(course: Course, life: Life) -> float:
    """From the middle of the first quarter to that of the last are three quarters of the time."""
    return course.grown / (0.75 * life.for_s) * _S_PER_HOUR
