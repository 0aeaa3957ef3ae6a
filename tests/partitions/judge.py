"""Who served when, and whether two ever did at once (pure).

The checker knows nothing of how it is decided who serves. It has what was seen: each moment at which a node answered
under the program's address. And it has who was made the primary, one after another. Whoever answers again after another
did, without having been made the primary again in between, has served beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

ANYBODY = ""
"""A primary of whom it is not known which node it was on."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A node answered under the program's address. at_ns: CLOCK_REALTIME."""

    at_ns: int
    node: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One node served, without another in between, from its first sign to its last."""

    node: str
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A client's request was answered. value: of a counter of the program, which no two answers may share."""

    client: str
    node: str
    at_ns: int
    value: int


def turns(signs: Iterable[Sign]) -> list[Turn]:
    """Who served, in the order of time."""
    found: list[Turn] = []
    for sign in sorted(signs, key=lambda one: one.at_ns):
        if found and found[-1].node == sign.node:
            found[-1] = Turn(sign.node, found[-1].first_ns, sign.at_ns)
        else:
            found.append(Turn(sign.node, sign.at_ns, sign.at_ns))
    return found


def overlaps(served: Sequence[Turn], primaries: Sequence[str]) -> list[str]:
    """The turns to which nobody was entitled, in words. primaries: the nodes of the primaries, in the order of their
    tokens, from the one before the first turn; not each has to have served."""
    wrong, at = [], 0
    for number, turn in enumerate(served):
        ahead = next((i for i in range(at, len(primaries)) if primaries[i] in (turn.node, ANYBODY)), None)
        if ahead is None:
            before = served[number - 1] if number else turn
            wrong.append(
                f"{turn.node} answered {(turn.first_ns - before.last_ns) / 1e6:.3f} ms after {before.node} did, "
                f"for {(turn.last_ns - turn.first_ns) / 1e6:.3f} ms, and was not made the primary again"
            )
        else:
            # Two turns of one node, with another's between them, need two promotions.
            at = ahead + 1
    return wrong


def twice(heard: Iterable[Heard]) -> list[str]:
    """Values that were given out twice by the same node within one of its turns, or by two nodes of which neither had
    stopped before: in words. An older state that is continued gives out a value again, but only when nobody else
    does any more."""
    seen: dict[int, Heard] = {}
    wrong = []
    for one in sorted(heard, key=lambda one: one.at_ns):
        before = seen.get(one.value)
        if before is not None and before.node == one.node:
            wrong.append(f"{one.node} gave {one.value} to {before.client} and to {one.client}")
        seen[one.value] = one
    return wrong


def lost(heard: Iterable[Heard]) -> int:
    """How many values were taken back: given out by one node, and again, or lower ones, by the next."""
    count, node, highest, before = 0, "", 0, 0
    for one in sorted(heard, key=lambda one: one.at_ns):
        if one.node != node:
            node, before, highest = one.node, highest, 0
            count += max(before - one.value + 1, 0) if before else 0
        highest = max(highest, one.value)
    return count


def handovers_ms(served: Sequence[Turn]) -> list[float]:
    """The silence between each two turns: by so much the one stopped before the other served."""
    return [(after.first_ns - before.last_ns) / 1e6 for before, after in pairwise(served)]


def primaries_of(tokens: Mapping[int, str], first: int, last: int) -> list[str]:
    """The nodes of the primaries with these tokens."""
    return [tokens.get(token, ANYBODY) for token in range(first, last + 1)]
