"""I6, from what nodes remember: what was acknowledged was agreed, and in the order in which it was asked.

A pause that is lost shows nowhere else: the next one hides it, as it would have been hidden anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import Agreed, Evidence, RegistryOperation

_EVENTS: Final = {"create": "program-created", "delete": "program-deleted", "resume": "resumed"}
_PAUSED: Final = "paused"


def what_is_acknowledged_is_remembered(evidence: Evidence) -> Iterator[Violation]:
    """Some node remembers each pause that was acknowledged, by the time at which it ends, after those that were
    acknowledged before it was asked for; and as many of the rest as were acknowledged."""
    if not evidence.history:
        return  # Nobody was asked, and the run is invalid.
    events = {one.index: one for one in evidence.history if one.program not in ("", evidence.program)}
    yield from _pauses(sorted(evidence.registry, key=lambda one: one.begun_ns), events)
    for kind, event in _EVENTS.items():
        acknowledged = sum(one.kind == kind and one.outcome == "ok" for one in evidence.registry)
        remembered = sum(one.kind == event for one in events.values())
        if remembered < acknowledged:
            what = f"{acknowledged} times a {kind} was acknowledged, and {remembered} are remembered"
            yield Violation("I6", what)


def _pauses(operations: list[RegistryOperation], events: dict[int, Agreed]) -> Iterator[Violation]:
    paused = sorted((index, one.text) for index, one in events.items() if one.kind == _PAUSED)
    placed: list[tuple[int, RegistryOperation]] = []
    for one in operations:
        if one.kind == "pause" and one.outcome == "ok" and one.until:
            places = [index for index, text in paused if one.until in text]
            if not places:
                yield Violation("I6", f"{_said(one)} was acknowledged, and nobody remembers it")
            elif len(places) == 1:
                placed.append((places[0], one))
    ended = deque(sorted(placed, key=lambda one: one[1].ended_ns))
    last = -1
    for place, one in placed:
        while ended[0][1].ended_ns < one.begun_ns:
            last = max(last, ended.popleft()[0])
        if place < last:
            yield Violation("I6", f"{_said(one)} was agreed before one that had its answer when it was asked for")


def _said(one: RegistryOperation) -> str:
    return f"a pause until {one.until} through node {one.through}, by {one.client},"
