"""What memory a structure lies in: an address alone does not tell whether it still is the same. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

from agent.context.layout import Area, parse_line

Ground: TypeAlias = tuple[tuple[int, int, tuple[object, ...]], ...]
"""Start, end and identity of each piece, ascending; neighbours that are the same memory are one piece."""


def ground(areas: Iterable[Area], start: int, end: int) -> Ground:
    """What is mapped in [start, end); areas: ascending."""
    found: list[tuple[int, int, tuple[object, ...]]] = []
    for area in areas:
        first, last, identity = max(area.start, start), min(area.end, end), area.identity()
        if first >= last:
            continue
        if found and found[-1][1:] == (first, identity):
            first = found.pop()[0]
        found.append((first, last, identity))
    return tuple(found)


def ground_by_text(lines: list[bytes], start: int, end: int) -> Ground:
    """The same by the lines of /proc/PID/maps, of which only those that matter are parsed."""
    at = max(bisect_right(lines, start, key=_start_of) - 1, 0)
    last = bisect_right(lines, end - 1, key=_start_of)
    return ground(map(parse_line, lines[at:last]), start, end)


def _start_of(line: bytes) -> int:
    return int(line[: line.index(b"-")], 16)
