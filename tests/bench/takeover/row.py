"""What one takeover came to for clients, and all of a kind as one row of figures. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class One:
    """One run. gap_ms: the longest time that a client waited, from its last good reply to its next; gaps_ms: the same
    by kind of connection, `busy` (there before) and `anew` (made for each write).

    parts_ms: the leader's, by name; none where nobody tells. overlaps: who served beside another, in words; None: not
    asked. lost: acknowledged writes that are not there any more; beyond: whether one of them is older than what the
    reported staleness covers. note: which sort of its kind it was, "" where there is one only.
    """

    gap_ms: float
    gaps_ms: Mapping[str, float]
    overlaps: Sequence[str] | None
    lost: int
    reset: int
    hung: int
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    beyond: bool = False
    taken_over: bool = True
    note: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Promise:
    """What a kind of takeover must keep. target_ms: of the median gap; None: none is set. keeps_writes: none may be
    lost."""

    target_ms: float | None = None
    keeps_writes: bool = False


def judged(outcome: Mapping[str, Any], **more: Any) -> One:
    """A run as the clients' own account (`kagemusha.demo.ledger.Outcome`) has it; more: what it does not know."""
    silent = tuple(f"connection {name} has no reply since" for name in outcome["silent"])
    return One(
        gap_ms=(outcome["gap_ns"] or 0) / NS_PER_MS,
        gaps_ms={name: gap_ns / NS_PER_MS for name, gap_ns in outcome["gaps_ns"].items()},
        lost=outcome["writes_lost"],
        reset=outcome["reset"],
        hung=outcome["hung"],
        **{"problems": (*outcome["foreign"], *silent), **more},
    )


def row(system: str, kind: str, ones: Sequence[One], promise: Promise | None) -> dict[str, Any]:
    """All runs of a kind. Times in ms; parts are medians; `kept` says whether all that must not be was not. promise:
    None: of a peer, which promised nothing."""
    gaps = sorted(one.gap_ms for one in ones)
    found: dict[str, Any] = {"system": system, "kind": kind, "runs": len(ones), "gap_ms": _spread(gaps)}
    for name in ("busy", "anew"):
        by_name = sorted(one.gaps_ms[name] for one in ones if name in one.gaps_ms)
        if by_name:
            found[{"busy": "gap_existing_ms", "anew": "gap_new_ms"}[name]] = _spread(by_name)
    names = dict.fromkeys(name for one in ones for name in one.parts_ms)
    medians = {name: statistics.median(one.parts_ms.get(name, 0.0) for one in ones if one.parts_ms) for name in names}
    found["parts_ms"] = {name: round(ms, 2) for name, ms in medians.items()}
    found["taken_over"] = sum(one.taken_over for one in ones)
    if all(one.overlaps is not None for one in ones):
        found["overlaps"] = sum(len(one.overlaps or ()) for one in ones)
    for name in ("lost", "reset", "hung"):
        found[name] = sum(getattr(one, name) for one in ones)
    notes = sorted({one.note for one in ones if one.note})
    if notes:
        found["gap_ms_p50_by"] = {
            note: round(statistics.median(one.gap_ms for one in ones if one.note == note), 1) for note in notes
        }
    return found if promise is None else {**found, **_kept(found, ones, promise)}


def _kept(found: Mapping[str, Any], ones: Sequence[One], promise: Promise) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if promise.target_ms is not None:
        kept["target_ms"] = promise.target_ms
        kept["in_target"] = found["gap_ms"]["p50"] <= promise.target_ms
    broken = broken_promises(ones, promise)
    kept["kept"] = not broken
    if broken:
        kept["broken"] = broken
    return kept


def broken_promises(ones: Sequence[One], promise: Promise) -> list[str]:
    """What must not be and was, each in one line. How long it took is no promise: that depends on the machine."""
    broken = []
    for number, one in enumerate(ones, start=1):
        found = [
            *((True, overlap) for overlap in one.overlaps or ()),
            (one.hung, f"{one.hung} connections hung"),
            (one.beyond, "writes older than the reported staleness were lost"),
            (promise.keeps_writes and one.lost, f"{one.lost} acknowledged writes were lost"),
            *((True, problem) for problem in one.problems),
        ]
        broken += [f"run {number}: {what}" for so, what in found if so]
    return broken


def _spread(ordered: Sequence[float]) -> dict[str, float]:
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50": round(statistics.median(ordered), 1), "p99": round(p99, 1), "max": round(ordered[-1], 1)}
