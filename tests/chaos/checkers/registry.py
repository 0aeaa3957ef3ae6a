"""I6: what was done to the registry can be put into one order that agrees with every answer (linearizability).

Source of the way: Wing, Gong, "Testing and Verifying Concurrent Objects" (1993), and Lowe, "Testing for
linearizability" (2017): as time goes on, every state that the registry may be in is kept, with what must have been done
for it. The object is one program's entry: it is absent, or present and paused to a degree (0: not at all).

What was not answered may have been done within UNANSWERED_S, or never. Of two ways to the same state the one that has
used less of that allows all that the other does, so the other is forgotten; and of what is alike the first is used
first. This keeps the search small.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import NS_PER_S, Evidence, RegistryOperation

UNANSWERED_S: Final = 120
"""After so long what had no answer was done, or never is: whoever had it to do has given up, and so has the network."""
OLD_S: Final = 60
"""What is merely looked at may be so old: a node that was cut off tells what it knew."""
State = int | None
"""None: there is no such program; else how long it is paused, see `RegistryOperation.degree`."""


@dataclass(frozen=True, slots=True)
class _Way:
    """done: operations that are under way and were put into the order already. used: those without an answer that
    were."""

    state: State
    done: frozenset[int]
    used: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Moment:
    """At one time: the states that the registry may have had just before, and those that it may have then."""

    at_ns: int
    before: frozenset[State]
    then: frozenset[State]


def registry_is_linearizable(evidence: Evidence) -> Iterator[Violation]:
    """See above. What is merely looked at may be old, but was so not long ago: a look is judged by what had been by
    then."""
    operations = sorted(evidence.registry, key=lambda one: one.begun_ns)
    changes = [one for one in operations if one.kind != "look"]
    moments = [_Moment(0, frozenset(), frozenset({None}))]
    ways = {_Way(None, frozenset(), frozenset())}
    open_now: set[int] = set()
    for at_ns, event, number in _events(changes):
        if event == _BEGINS:
            open_now.add(number)
            continue
        tried: set[State] = {way.state for way in ways}
        if event == _ENDS:
            ways = _after(ways, number, open_now, changes, tried)
        else:
            ways = _forgotten(_after(ways, None, open_now, changes, tried), number)
        if not ways:
            one = changes[number]
            yield Violation("I6", f"{_said(one)} agrees with no order of what was done to the registry before")
            return
        open_now.discard(number)
        moments.append(_Moment(at_ns, frozenset(tried), frozenset(way.state for way in ways)))
    yield from _looks(operations, changes, moments)


_Event = Literal[0, 1, 2]
_BEGINS: Final = 0
_ENDS: Final = 1
_IS_OVER: Final = 2


def _events(changes: list[RegistryOperation]) -> list[tuple[int, _Event, int]]:
    """Beginnings and ends in time; of those at one time the beginnings first. What had no answer is over some time."""
    found: list[tuple[int, _Event, int]] = []
    for number, one in enumerate(changes):
        found.append((one.begun_ns, _BEGINS, number))
        if one.outcome == "unknown":
            found.append((one.begun_ns + UNANSWERED_S * NS_PER_S, _IS_OVER, number))
        else:
            found.append((one.ended_ns, _ENDS, number))
    last_ns = max((one.ended_ns for one in changes if one.outcome != "unknown"), default=0)
    return sorted(event for event in found if event[1] != _IS_OVER or event[0] < last_ns)


def _forgotten(ways: Iterable[_Way], number: int) -> set[_Way]:
    """The same ways when that operation was done, or never will be."""
    kept = _Kept(())
    for way in ways:
        kept.add(_Way(way.state, way.done, way.used - {number}))
    return kept.ways


def _after(
    ways: Iterable[_Way], ends: int | None, open_now: set[int], changes: list[RegistryOperation], tried: set[State]
) -> set[_Way]:
    """The ways on which operation `ends` has been put into the order by its end; None: all that there may be by now.
    tried: gets every state that may have been on the way there."""
    left, kept, found = deque(ways), _Kept(ways), _Kept(())
    while left:
        way = left.popleft()
        if ends is not None and ends in way.done:
            found.add(_Way(way.state, way.done - {ends}, way.used))
            continue
        for number in _firsts(open_now - way.done - way.used, changes):
            unknown = changes[number].outcome == "unknown"
            marked = frozenset({number})
            done, used = (way.done, way.used | marked) if unknown else (way.done | marked, way.used)
            for state in _states_after(way.state, changes[number]):
                tried.add(state)
                further = _Way(state, done, used)
                # To have done what changes nothing leaves less for later.
                if not (unknown and state == way.state) and kept.add(further):
                    left.append(further)
    return found.ways if ends is not None else kept.ways


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
    operations: list[RegistryOperation], changes: list[RegistryOperation], moments: list[_Moment]
) -> Iterator[Violation]:
    """Whoever only looks is told of nothing that had not been, or no more for long. What was under way may have shown
    before it was done."""
    begun_ns = [one.begun_ns for one in changes]
    at_ns = [one.at_ns for one in moments]
    for one in operations:
        if one.kind != "look" or one.outcome != "ok":
            continue
        first = max(bisect_right(at_ns, one.begun_ns - OLD_S * NS_PER_S) - 1, 0)
        last = bisect_right(at_ns, one.ended_ns)
        if one.degree in moments[first].then or any(one.degree in had.before for had in moments[first + 1 : last]):
            continue
        if one.degree in moments[max(last - 1, 0)].then:
            continue
        since = bisect_left(begun_ns, one.begun_ns - UNANSWERED_S * NS_PER_S)
        under_way = changes[since : bisect_right(begun_ns, one.ended_ns)]
        may_show = (change for change in under_way if change.outcome == "unknown" or change.ended_ns >= one.begun_ns)
        if not any(_makes(change, one.degree) for change in may_show):
            yield Violation("I6", f"{_said(one)} is what the registry had not been for long by then, or never")


def _makes(one: RegistryOperation, state: State) -> bool:
    """Whether an operation that is done leaves that."""
    made: dict[str, State] = {"create": 0, "delete": None, "pause": one.degree, "resume": 0}
    return one.outcome != "refused" and one.kind in made and made[one.kind] == state


def _said(one: RegistryOperation) -> str:
    """For people."""
    degree = "" if one.degree is None else f" {one.degree}"
    return f"{one.kind}{degree} through node {one.through}: {one.outcome}, by {one.client}"
