"""Whether a run says anything: a cluster that nobody uses or harms keeps every promise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from tests.chaos.evidence import NS_PER_S, Evidence

WRITES_PER_S_MIN = 20.0


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
    for name, found in (
        ("reads", [one for one in evidence.operations if one.kind == "read" and one.ok]),
        ("packets of the program", evidence.servings),
        ("reports of the staleness", [one for one in evidence.reports if one.lag_ms is not None]),
        ("lists in the end", evidence.contents),
        ("events", evidence.history),
        ("changes of the registry", evidence.registry),
    ):
        if not found and (ours or (found is not evidence.servings and found is not evidence.registry)):
            yield f"there are no {name}"
