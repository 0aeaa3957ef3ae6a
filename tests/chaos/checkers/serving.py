"""I1, from the clients' side: who answered was the primary, one after the other, as the tokens say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from tests.chaos.checkers.tokens import grants
from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import Evidence


def one_serves_at_a_time(evidence: Evidence) -> Iterator[Violation]:
    """The nodes that sent data from the program's address, in the order in which they did, are those that were granted
    a token, in the order of the tokens. Two that served at once would take turns without a grant between."""
    primaries = [grant.node for grant in grants(evidence.history, evidence.program)]
    if not evidence.history or not evidence.program:
        return  # Who was granted what is not known, and the run is invalid.
    place = -1
    for run in _joined([run.node for run in evidence.servings]):
        after = _index_after(primaries, run, place)
        if after is None:
            at = f"after {primaries[place]} under token {place + 1}" if place >= 0 else "at first"
            yield Violation("I1", f"node {run} answered clients {at}, and was granted no token from there on")
            return
        place = after


def _joined(nodes: Sequence[str]) -> list[str]:
    return [node for node, _ in groupby(nodes)]


def _index_after(primaries: Sequence[str], node: str, place: int) -> int | None:
    """The first grant to the node that is not before `place`."""
    return next((index for index in range(max(place, 0), len(primaries)) if primaries[index] == node), None)
