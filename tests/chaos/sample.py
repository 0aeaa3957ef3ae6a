"""The evidence of a good run that never was: three nodes, a node dies, the takeover loses what it may (pure)."""

from __future__ import annotations

from tests.chaos.evidence import (
    NS_PER_MS,
    NS_PER_S,
    Agreed,
    Census,
    Content,
    Evidence,
    Operation,
    RegistryOperation,
    Report,
    Sample,
    Serving,
    Standing,
    Struck,
)

WRITES = 400
_EVERY_NS = 10 * NS_PER_MS
_TAKEOVER_AFTER = 100
"""So many writes are done before the node dies; the newest LOST of them are lost."""
LOST = 2
OTHER = "registered"
"""The program whose entry is changed."""


def good_run() -> Evidence:
    """One client writes every 10 ms, and another reads after each write; after a second node a dies, and b goes on. In
    the end a is whole again for a second."""
    evidence = Evidence()
    struck_ns = _TAKEOVER_AFTER * _EVERY_NS + 1
    length = 0
    there: list[int] = []
    for number in range(1, WRITES + 1):
        if number == _TAKEOVER_AFTER + 1:
            del there[-LOST:]
        there.append(number)
        length = len(there)
        at_ns = number * _EVERY_NS
        evidence.operations.append(
            Operation("one", "append", number, length, at_ns - 2 * NS_PER_MS, at_ns, True, "one")
        )
        read_ns = (at_ns + NS_PER_MS, at_ns + 2 * NS_PER_MS)
        evidence.operations.append(Operation("one", "read", 0, length, *read_ns, True, "two"))
    evidence.contents.append(Content("one", tuple(there)))
    end_ns = WRITES * _EVERY_NS
    evidence.servings += [Serving("a", 0, struck_ns, 100), Serving("b", struck_ns + NS_PER_MS, end_ns, 100)]
    # The staleness of 50 ms covers what is lost.
    evidence.reports += [_report(at_ns, 1, "a", 50.0) for at_ns in range(0, struck_ns, 10 * _EVERY_NS)]
    evidence.reports += [_report(at_ns, 2, "b", 20.0) for at_ns in range(struck_ns + NS_PER_S, end_ns, 10 * _EVERY_NS)]
    times_ns = (struck_ns, struck_ns + NS_PER_MS, struck_ns + NS_PER_S - NS_PER_MS, struck_ns + NS_PER_S, 3 * NS_PER_S)
    evidence.struck.append(Struck(1, "node-killed", "primary", "a", "staleness", *times_ns, "it is gone"))
    evidence.registry += [
        RegistryOperation("anna", "create", None, "a", 1, 2, "ok"),
        RegistryOperation("anna", "pause", 3, "a", 3, 4, "ok", "2026-12-03T08:00:00Z"),
        RegistryOperation("anna", "read", 3, "a", 3, 4, "ok"),
        RegistryOperation("bert", "look", 3, "b", 5, 6, "ok"),
        RegistryOperation("anna", "pause", 5, "a", 7, 12, "unknown"),
        RegistryOperation("bert", "create", None, "b", 8, 10, "refused"),
        RegistryOperation("bert", "look", 3, "b", 11, 13, "ok"),
        RegistryOperation("bert", "delete", None, "b", 14, 16, "ok"),
        RegistryOperation("carl", "resume", None, "c", 15, 18, "refused"),
        RegistryOperation("carl", "create", None, "c", 19, 20, "ok"),
        RegistryOperation("bert", "look", 5, "b", 21, 22, "ok"),
        RegistryOperation("carl", "pause", 4, "c", 23, 24, "ok", "2026-12-03T20:00:00Z"),
    ]
    for node in "abc":
        evidence.history += [
            Agreed(node, 1, "leader-changed", "", "a", "node a leads in term 1"),
            Agreed(node, 2, "program-started", "redis", "a", "redis@a starts anew under token 1: it is created"),
            Agreed(node, 3, "program-created", OTHER, "", f"program {OTHER} is to run on a"),
            Agreed(node, 4, "paused", OTHER, "", f"no failover of {OTHER} until 2026-12-03T08:00:00Z"),
            Agreed(node, 5, "primary-fenced", "redis", "a", "primary redis@a is fenced: its lease has run out"),
            Agreed(node, 6, "primary-promoted", "redis", "b", "redis@b goes on from checkpoint 9 under token 2"),
            Agreed(node, 7, "program-deleted", OTHER, "", f"program {OTHER} is forgotten"),
            Agreed(node, 8, "program-created", OTHER, "", f"program {OTHER} is to run on a"),
            Agreed(node, 9, "paused", OTHER, "", f"no failover of {OTHER} until 2026-12-03T20:00:00Z"),
        ]
        evidence.census += [Census(at_ns, node, "daemon", 1, 30, 60_000) for at_ns in (0, end_ns)]
        evidence.samples += [Sample(at_ns, node, "daemon", 7, 30, 0, 60_000, 5, 20) for at_ns in (0, end_ns)]
        evidence.standings += [Standing(node, at_ns, at_ns + NS_PER_MS, 1) for at_ns in range(0, end_ns, NS_PER_S)]
    return evidence


def _report(at_ns: int, token: int, primary: str, lag_ms: float) -> Report:
    return Report("redis", at_ns, at_ns + NS_PER_MS, token, primary, lag_ms)
