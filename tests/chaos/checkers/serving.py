"""I1 and I3, from the clients' side: who answered was the primary, one after the other, as the tokens say; and who
can't be told that it still is, answers nobody."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from tests.chaos.checkers.tokens import Grant, grants
from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import NS_PER_MS, NS_PER_S, SILENCE_NS, Evidence, Report, Serving, Struck

LEASE_MS = 400
LATE_MS = 250
"""That a primary without a lease is silent may take so much longer: this machine may be slow."""
OLD_S = 30
"""What the cluster said of its token may be older than its answer by so much: who was cut off tells what it knew."""
_ALONE = ("cut-off", "isolated")
"""Faults of a node that hears nobody and is heard by nobody of those who agree."""


def one_serves_at_a_time(evidence: Evidence) -> Iterator[Violation]:
    """The nodes that sent data from the program's address, in the order in which they did, are those that were granted
    a token, in the order of the tokens. Two that served at once would take turns without a grant between.

    Nobody sends anything under a token when the cluster has already told of a later one; nor long before it told of
    this one.
    """
    if not evidence.history or not evidence.program:
        return  # Who was granted what is not known, and the run is invalid.
    granted = grants(evidence.history, evidence.program)
    told = _Told(evidence.reports)
    place = -1
    for run in evidence.servings:
        after = _place_after(granted, run, max(place, 0), told)
        if after is None:
            at = f"after node {granted[place].node} under token {granted[place].token}" if place >= 0 else "at first"
            known = f"token {told.by(run.last_ns)} was known, and"
            yield Violation("I1", f"node {run.node} answered clients {at}; {known} it was granted none from there on")
            return
        place = after


class _Told:
    """Which tokens the cluster had told of, and when."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = sorted(reports, key=lambda one: one.told_ns)
        self._told_ns = [one.told_ns for one in self._reports]
        self._highest = [0]
        for one in self._reports:
            self._highest.append(max(self._highest[-1], one.token))
        self._last_asked_ns: dict[int, int] = {}
        for one in self._reports:
            self._last_asked_ns[one.token] = max(one.asked_ns, self._last_asked_ns.get(one.token, 0))

    def by(self, at_ns: int) -> int:
        """The highest that had been told before; 0: none."""
        return self._highest[bisect_left(self._told_ns, at_ns)]

    def is_too_early(self, token: int, at_ns: int) -> bool:
        """Whether the cluster said much later that it had granted no such token yet."""
        before = (asked_ns for told, asked_ns in self._last_asked_ns.items() if told < token)
        return at_ns < max(before, default=0) - OLD_S * NS_PER_S


def _place_after(granted: Sequence[Grant], run: Serving, place: int, told: _Told) -> int | None:
    """The first grant, not before `place`, under which the run can have been."""
    known = told.by(run.last_ns)
    for index in range(place, len(granted)):
        grant = granted[index]
        if grant.node == run.node and grant.token >= known:
            return None if told.is_too_early(grant.token, run.last_ns) else index
    return None


def none_serves_without_a_lease(evidence: Evidence) -> Iterator[Violation]:
    """A node that was cut off from all others has sent no data from the program's address when its lease had ended."""
    for fault in evidence.struck:
        if fault.kind in _ALONE and fault.effect and not _is_joined(fault, evidence.struck):
            since_ns = fault.in_force_ns + (LEASE_MS + LATE_MS) * NS_PER_MS
            run = next((one for one in evidence.servings if _is_within(one, fault, since_ns)), None)
            if run is not None:
                late_ms = (min(run.last_ns, fault.over_ns) - fault.in_force_ns) / NS_PER_MS
                what = f"node {fault.node} still answered clients {late_ms:.0f} ms after it was {fault.kind}"
                yield Violation("I3", f"{what} (fault {fault.number}), and a lease is {LEASE_MS} ms")


def _is_joined(fault: Struck, struck: Sequence[Struck]) -> bool:
    """Whether something else was done at the same time, which may have brought it back."""
    return sum(one.number == fault.number for one in struck) > 1


def _is_within(run: Serving, fault: Struck, since_ns: int) -> bool:
    """Whether a run of the node has a packet between then and the fault's end: it has one every SILENCE_NS."""
    if run.node != fault.node or fault.over_ns - since_ns < SILENCE_NS:
        return False
    return run.last_ns > since_ns and run.first_ns < fault.over_ns
