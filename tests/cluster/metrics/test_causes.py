"""Reasons of takeovers, as the leader's decisions word them, are told apart."""

from __future__ import annotations

import pytest

from cluster.metrics.causes import CAUSES, cause_of
from cluster.registry.commands import Promote
from transport.checkpoint import Version


def promote(reason: str, at_s: int = 1_700_000_000) -> Promote:
    """A promotion for this reason; at_s 0: nothing failed."""
    return Promote("r", "redis", 1, "redis@b", Version(1, 7, 9), "f", reason, 3, at_s)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("node a is lost", "node"),
        ("node a did not come back from a restart of its daemon", "node"),
        ("the agent on node a is lost, program and all", "agent"),
        ("the program on node a did not come up in time", "start"),
        ("its primary is fenced", "fenced"),
        ("exchange 6379: no answer within 500 ms, 3 times in a row", "health"),
        ("http 80/: 500 Oops, 3 times in a row; tcp 80: refused, 3 times in a row", "health"),
        ("the program ended with wait status 0x9", "program"),
        ("no mirror acknowledged the last checkpoint within 2 s", "program"),
    ],
)
def test_failures(reason: str, cause: str) -> None:
    assert cause_of(promote(reason)) == cause
    assert cause in CAUSES


def test_what_people_want() -> None:
    assert cause_of(promote("a person asked for it", 0)) == "planned"
    assert cause_of(promote("a person forced it", 0)) == "forced"
    assert cause_of(promote("node a is lost", 0)) == "forced"
