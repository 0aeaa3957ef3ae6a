"""What happened in a simulation, in true time, and the checkers that judge it. They know the invariants alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from transport.checkpoint import NOTHING, Version

ROUNDING_S = 1e-6
"""Clocks are converted to true time and back."""


@dataclass(frozen=True, slots=True)
class Served:
    """The program reached its clients from `start_s` to `end_s`, from this node, under this token."""

    token: int
    node: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Granted:
    """A token was agreed at `at_s`; expected: the one that it replaced."""

    at_s: float
    expected: int
    token: int
    node: str
    asked_by: str = ""
    planned: bool = False


@dataclass(slots=True)
class Trace:
    """served: closed intervals. leases: (token, node, end). stilled: (token, node) -> intervals of being kept still by
    an order or by its end. complete: (node, version). activated: (node, token, version)."""

    served: list[Served] = field(default_factory=list)
    granted: list[Granted] = field(default_factory=list)
    leases: list[tuple[int, str, float]] = field(default_factory=list)
    stilled: dict[tuple[int, str], list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    complete: set[tuple[str, Version]] = field(default_factory=set)
    activated: list[tuple[str, int, Version]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def still(self, token: int, node: str, at_s: float) -> None:
        """From now on an order, or its end, keeps it from having any effect."""
        self.stilled[token, node].append([at_s, float("inf")])

    def stirs(self, token: int, node: str, at_s: float) -> None:
        """It may have an effect again."""
        for span in self.stilled[token, node]:
            span[1] = min(span[1], at_s)


def one_serves_at_a_time(trace: Trace) -> list[str]:
    """I1: intervals of service never overlap, unless they are of the same token on the same node."""
    wrong = []
    spans = sorted(trace.served, key=lambda span: span.start_s)
    last: Served | None = None
    for span in spans:
        if last is not None and (span.token, span.node) != (last.token, last.node) and span.start_s < last.end_s:
            wrong.append(f"I1: {span} overlaps {last}")
        if last is None or span.end_s >= last.end_s:
            last = span
    return wrong


def tokens_rise(trace: Trace) -> list[str]:
    """I2: in the order of agreement tokens strictly rise, none is granted twice, and who served had been granted."""
    wrong = []
    for before, after in zip(trace.granted, trace.granted[1:], strict=False):
        if after.token <= before.token:
            wrong.append(f"I2: {after} after {before}")
    agreed = {(grant.token, grant.node) for grant in trace.granted}
    return wrong + [f"I2: {span} was never agreed" for span in trace.served if (span.token, span.node) not in agreed]


def leases_bind(trace: Trace) -> list[str]:
    """I3: nobody serves beyond its last lease, and nobody is promoted while the one before could serve."""
    wrong = []
    ends: dict[tuple[int, str], float] = {}
    for token, node, end_s in trace.leases:
        ends[token, node] = max(end_s, ends.get((token, node), 0.0))
    for span in trace.served:
        if span.end_s > ends.get((span.token, span.node), 0.0) + ROUNDING_S:
            wrong.append(f"I3: {span} beyond its lease")
    for grant in trace.granted:
        for (token, node), end_s in ends.items():
            if token != grant.expected or end_s <= grant.at_s:
                continue
            if not any(start <= grant.at_s < end for start, end in trace.stilled[token, node]):
                wrong.append(f"I3: {grant}, but token {token} had a lease on {node} until {end_s}")
    return wrong


def activations_are_complete(trace: Trace) -> list[str]:
    """I7: a mirror becomes primary only from a checkpoint that it holds complete."""
    return [
        f"I7: {node} under token {token} from {version}"
        for node, token, version in trace.activated
        if version == NOTHING or (node, version) not in trace.complete
    ]


def a_request_is_carried_out_once(trace: Trace) -> list[str]:
    """What a person asked for is planned and agreed once, to however many leaders it was said."""
    asked = Counter(grant.asked_by for grant in trace.granted if grant.asked_by and grant.planned)
    return [f"request {name} was carried out {times} times" for name, times in asked.items() if times > 1]


CHECKERS = (
    one_serves_at_a_time,
    tokens_rise,
    leases_bind,
    activations_are_complete,
    a_request_is_carried_out_once,
)


def violations(trace: Trace) -> list[str]:
    """All that is wrong, by all checkers."""
    return [finding for checker in CHECKERS for finding in checker(trace)]
