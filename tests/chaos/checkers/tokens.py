"""I2 and I11: fencing tokens rise by one with each grant, and none is granted twice; nor does a term go back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import Agreed, Evidence

_GRANTS = ("primary-promoted", "program-started")
_TOKEN = re.compile(r" under token (\d+)")
_TERM = re.compile(r" in term (\d+)")


@dataclass(frozen=True, slots=True)
class Grant:
    """A token and the node that it was granted to."""

    index: int
    token: int
    node: str


def grants(history: Iterable[Agreed], program: str) -> list[Grant]:
    """All grants of a program's tokens that any node tells of, in their order, each once."""
    found = {
        Grant(one.index, int(match[1]), one.node)
        for one in history
        if one.kind in _GRANTS and one.program == program and (match := _TOKEN.search(one.text))
    }
    return sorted(found, key=lambda grant: (grant.index, grant.token, grant.node))


def tokens_rise(evidence: Evidence) -> Iterator[Violation]:
    """Each grant's token is the one before and one more, from 1 on where the history has the program's creation in it;
    and what clients were told never goes back."""
    granted = grants(evidence.history, evidence.program)
    before = 0 if _is_created(evidence) else min((grant.token - 1 for grant in granted[:1]), default=0)
    for grant in granted:
        if grant.token != before + 1:
            yield Violation("I2", f"token {grant.token} was granted to node {grant.node} after token {before}")
        before = max(before, grant.token)
    said = 0
    for report in evidence.reports:
        if report.token < said:
            yield Violation("I2", f"the cluster said token {report.token} after it had said {said}")
        said = max(said, report.token)


def _is_created(evidence: Evidence) -> bool:
    """Whether anybody remembers that: of a cluster that has been there for long nodes keep the newest events alone."""
    return any(one.kind == "program-created" and one.program == evidence.program for one in evidence.history)


def terms_rise(evidence: Evidence) -> Iterator[Violation]:
    """No node says that it is of a term that is over for it, though it was started anew between; each leader's term is
    later than that of the leader before."""
    said: dict[str, int] = {}
    for one in sorted(evidence.standings, key=lambda one: one.asked_ns):
        if 0 < one.term < said.get(one.node, 0):
            yield Violation("I11", f"node {one.node} said term {one.term} after it had said {said[one.node]}")
        said[one.node] = max(one.term, said.get(one.node, 0))
    led: dict[tuple[int, str], int] = {
        (one.index, one.node): int(match[1])
        for one in evidence.history
        if one.kind == "leader-changed" and (match := _TERM.search(one.text))
    }
    before = 0
    for (_, node), term in sorted(led.items()):
        if term <= before:
            yield Violation("I11", f"node {node} led in term {term} after another leader's term {before}")
        before = max(before, term)
