"""Whether a run says anything: a cluster that nobody uses or harms keeps every promise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from tests.chaos.checkers.tokens import grants
from tests.chaos.checkers.writes import covered_ns
from tests.chaos.evidence import NS_PER_S, Evidence

WRITES_PER_S_MIN = 20.0
UNCOVERED_S_MAX = 10.0
"""So long before a fault may that be which was said to be safe."""


def why_invalid(evidence: Evidence, *, ours: bool = True) -> Iterator[str]:
    """Why nothing follows from this run; nothing: it counts. ours: whether the cluster is one of
    our own: somebody could look at who answered, and change its registry."""
    if not evidence.struck:
        yield "no fault was in force"
    for _, together in groupby(evidence.struck, key=lambda one: one.number):
        faults = list(together)
        # Of two that are done at once, one may leave nothing to do for the other.
        if not any(one.effect for one in faults):
            names = " and ".join(f"{one.kind} at the {one.target}" for one in faults)
            yield f"fault {faults[0].number} ({names}) had no effect"
    written = [one for one in evidence.operations if one.kind == "append" and one.ok]
    if written:
        passed_s = max((written[-1].ended_ns - written[0].ended_ns) / NS_PER_S, 1.0)
        rate = len(written) / passed_s
        if rate < WRITES_PER_S_MIN:
            yield f"only {rate:.1f} writes a second were acknowledged, at least {WRITES_PER_S_MIN:g} are asked for"
    else:
        yield "no write was acknowledged"
    yield from _missing(evidence, ours=ours)
    yield from _unknown(evidence)


def _missing(evidence: Evidence, *, ours: bool) -> Iterator[str]:
    """What nobody has seen."""
    changes = [one for one in evidence.registry if one.kind not in ("look", "read") and one.outcome != "unknown"]
    for name, found, is_wanted in (
        ("reads", [one for one in evidence.operations if one.kind == "read" and one.ok], True),
        ("packets of the program", evidence.servings, ours),
        ("reports of the staleness", [one for one in evidence.reports if one.lag_ms is not None], True),
        ("lists in the end", evidence.contents, True),
        ("events", evidence.history, True),
        ("grants of a token", grants(evidence.history, evidence.program), True),
        ("terms", evidence.standings, True),
        ("counts of processes", evidence.census, True),
        ("looks at processes", evidence.samples, ours),
        ("answered changes of the registry", changes, ours),
        ("pauses that were acknowledged", [one for one in evidence.registry if one.until], ours),
        ("reads of the registry", [one for one in evidence.registry if one.kind == "read"], ours),
        (
            "looks at the registry",
            [one for one in evidence.registry if one.kind == "look" and one.outcome == "ok"],
            ours,
        ),
    ):
        if is_wanted and not found:
            yield f"there are no {name}"
    read = {one.client for one in evidence.contents}
    for client in sorted({one.client for one in evidence.operations} - read):
        yield f"the list of {client} was not read in the end"


def _unknown(evidence: Evidence) -> Iterator[str]:
    """Faults before which nobody knew for long what they might cost: they could cost anything."""
    for fault in evidence.struck:
        if fault.loses == "staleness":
            ago_s = (fault.begun_ns - covered_ns(fault, evidence)) / NS_PER_S
            if ago_s > UNCOVERED_S_MAX:
                since = f"what was safe {UNCOVERED_S_MAX:g} s before it"
                yield f"fault {fault.number} ({fault.kind}): the cluster had not said {since}"
