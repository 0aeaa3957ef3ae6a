"""I6: what was done to the registry can be put into one order that agrees with every answer (linearizability).

Source of the way: Wing, Gong, "Testing and Verifying Concurrent Objects" (1993), and Lowe, "Testing for
linearizability" (2017): as time goes on, every state that the registry may be in is kept, with what must have been done
for it. The object is one program's entry: it is absent, or present and paused to a degree (0: not at all).

What was not answered may have been done at any later time, or never. Of two ways to the same state the one that has
used less of that allows all that the other does, so the other is forgotten; and of what is alike the first is used
first. This keeps the search small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import Evidence, RegistryOperation

State = int | None
"""None: there is no such program; else how long it is paused, see `RegistryOperation.degree`."""


@dataclass(frozen=True, slots=True)
class _Way:
    """done: operations that are under way and were put into the order already. used: those without an answer that
    were."""

    state: State
    done: frozenset[int]
    used: frozenset[int]


def registry_is_linearizable(evidence: Evidence) -> Iterator[Violation]:
    """See above. What is merely looked at may be old, but was so once: a look is judged by what had been by then."""
    operations = sorted(evidence.registry, key=lambda one: one.begun_ns)
    changes = [one for one in operations if one.kind != "look"]
    ever: dict[State, int] = {None: 0}
    ways = {_Way(None, frozenset(), frozenset())}
    open_now: set[int] = set()
    for at_ns, ends, number in _events(changes):
        if not ends:
            open_now.add(number)
            continue
        ways = _after(ways, number, open_now, changes, ever, at_ns)
        if not ways:
            one = changes[number]
            yield Violation("I6", f"{_said(one)} agrees with no order of what was done to the registry before")
            return
        open_now.discard(number)
    yield from _looks(operations, changes, ever)


def _events(changes: list[RegistryOperation]) -> list[tuple[int, bool, int]]:
    """Beginnings and ends in time; of those at one time the beginnings first. What had no answer never ends."""
    begun = [(one.begun_ns, False, number) for number, one in enumerate(changes)]
    ended = [(one.ended_ns, True, number) for number, one in enumerate(changes) if one.outcome != "unknown"]
    return sorted(begun + ended)


def _after(
    ways: Iterable[_Way],
    ends: int,
    open_now: set[int],
    changes: list[RegistryOperation],
    ever: dict[State, int],
    at_ns: int,
) -> set[_Way]:
    """The ways on which operation `ends` has been put into the order by its end."""
    left, kept, found = deque(ways), _Kept(ways), _Kept(())
    while left:
        way = left.popleft()
        if ends in way.done:
            found.add(_Way(way.state, way.done - {ends}, way.used))
            continue
        for number in _firsts(open_now - way.done - way.used, changes):
            unknown = changes[number].outcome == "unknown"
            marked = frozenset({number})
            done, used = (way.done, way.used | marked) if unknown else (way.done | marked, way.used)
            for state in _states_after(way.state, changes[number]):
                ever.setdefault(state, at_ns)
                further = _Way(state, done, used)
                # To have done what changes nothing leaves less for later.
                if not (unknown and state == way.state) and kept.add(further):
                    left.append(further)
    return found.ways


def _firsts(numbers: Iterable[int], changes: list[RegistryOperation]) -> Iterator[int]:
    """All that will have an answer; of those without one that are alike, the first."""
    alike: set[tuple[str, int | None]] = set()
    for number in sorted(numbers):
        one = changes[number]
        if one.outcome != "unknown":
            yield number
        elif (one.kind, one.degree) not in alike:
            alike.add((one.kind, one.degree))
            yield number


class _Kept:
    """Ways, without those that have used more than another one for the same."""

    def __init__(self, ways: Iterable[_Way]) -> None:
        self._used: dict[tuple[State, frozenset[int]], list[frozenset[int]]] = {}
        for way in ways:
            self.add(way)

    def add(self, way: _Way) -> bool:
        """False: there is one that allows as much."""
        there = self._used.setdefault((way.state, way.done), [])
        if any(used <= way.used for used in there):
            return False
        there[:] = [used for used in there if not way.used <= used] + [way.used]
        return True

    @property
    def ways(self) -> set[_Way]:
        """All that are left."""
        return {_Way(state, done, used) for (state, done), several in self._used.items() for used in several}


def _states_after(state: State, one: RegistryOperation) -> list[State]:
    """What an operation makes of a state, if it can have had its outcome there."""
    match one.kind, one.outcome:
        case "create", "ok" | "unknown":
            return [0] if state is None else [state] if one.outcome == "unknown" else []
        case "create", "refused":
            return [] if state is None else [state]
        case "delete", "ok" | "unknown":
            return [None] if state is not None or one.outcome == "unknown" else []
        case "pause", "ok" | "unknown":
            return [one.degree] if state is not None else [state] if one.outcome == "unknown" else []
        case "read", _:
            return [state] if state is not None and state == one.degree else []
        case "resume", "ok" | "unknown":
            return [0] if state is not None else [state] if one.outcome == "unknown" else []
        case _, _:  # refused: there is no such program
            return [state] if state is None else []


def _looks(
    operations: list[RegistryOperation], changes: list[RegistryOperation], ever: dict[State, int]
) -> Iterator[Violation]:
    """Whoever only looks is told of nothing that could not have been by then. ever: by the end of which operation the
    registry may have been in which state; what was under way then may have shown before."""
    for one in operations:
        if one.kind != "look" or one.outcome != "ok":
            continue
        under_way = {
            state
            for change in changes
            if change.begun_ns <= one.ended_ns and (change.outcome == "unknown" or change.ended_ns >= one.begun_ns)
            for state in _states_after(0, change)
        }
        before = {state for state, at_ns in ever.items() if at_ns <= one.ended_ns}
        if one.degree not in before | under_way:
            yield Violation("I6", f"{_said(one)} is what the registry had never been by then")


def _said(one: RegistryOperation) -> str:
    """For people."""
    degree = "" if one.degree is None else f" {one.degree}"
    return f"{one.kind}{degree} through node {one.through}: {one.outcome}, by {one.client}"
