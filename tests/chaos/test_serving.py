"""Who may answer clients when: under its own token alone, and not without a lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.checkers.serving import LATE_MS, LEASE_MS, OLD_S, none_serves_without_a_lease, one_serves_at_a_time
from tests.chaos.evidence import NS_PER_MS, NS_PER_S, Agreed, Evidence, Report, Serving, Struck


def granted(nodes: str, servings: list[Serving], *told: tuple[int, int]) -> Evidence:
    """A run in which these nodes were granted tokens 1, 2, ... told: a token, and when the cluster told of it."""
    history = [
        Agreed("a", number, "primary-promoted", "redis", node, f"it goes on under token {number}")
        for number, node in enumerate(nodes, start=1)
    ]
    reports = [Report("redis", at_ns - 1, at_ns, token, nodes[token - 1], 1.0) for token, at_ns in told]
    return Evidence(history=history, servings=servings, reports=reports)


def violated(evidence: Evidence) -> bool:
    """Whether two served at once."""
    return bool(list(one_serves_at_a_time(evidence)))


def test_each_serves_under_its_own_token() -> None:
    servings = [Serving("a", 1, 5, 9), Serving("b", 6, 7, 9), Serving("b", 8, 9, 9), Serving("a", 10, 12, 9)]
    assert not violated(granted("aba", servings, (1, 2), (2, 7), (3, 11)))
    assert violated(granted("ab", servings, (1, 2), (2, 7)))


def test_who_was_replaced_is_silent_when_that_is_told() -> None:
    """Its own later token does not excuse it: it was granted long after."""
    late_ns = 2 * OLD_S * NS_PER_S
    servings = [Serving("a", 1, 8, 9), Serving("b", 9, 20, 9)]
    assert violated(granted("ab", servings, (1, 2), (2, 7)))
    assert not violated(granted("ab", servings, (1, 2), (2, 8)))
    assert violated(granted("abab", servings, (1, 2), (2, 7), (2, late_ns)))


def cut_off(last_ms: int, over_ms: int, kind: str = "isolated") -> Evidence:
    """Node a is cut off at once, and answers clients until then."""
    times_ns = (0, 0, over_ms * NS_PER_MS, over_ms * NS_PER_MS, None)
    struck = [Struck(1, kind, "primary", "a", "staleness", *times_ns, "lost packets")]
    return Evidence(struck=struck, servings=[Serving("a", 0, last_ms * NS_PER_MS, 9)])


LONGEST_MS = LEASE_MS + LATE_MS


@pytest.mark.parametrize("kind", ["isolated", "cut-off"])
def test_who_is_cut_off_is_silent_after_its_lease(kind: str) -> None:
    assert not list(none_serves_without_a_lease(cut_off(LONGEST_MS, 2000, kind)))
    assert list(none_serves_without_a_lease(cut_off(LONGEST_MS + 1, 2000, kind)))
    assert list(none_serves_without_a_lease(cut_off(3000, 2000, kind))), "it never stopped"


def test_who_is_back_may_serve() -> None:
    evidence = cut_off(LONGEST_MS, 2000)
    evidence.servings.append(Serving("a", 2001 * NS_PER_MS, 2500 * NS_PER_MS, 9))
    assert not list(none_serves_without_a_lease(evidence))
    assert not list(none_serves_without_a_lease(cut_off(3000, LONGEST_MS - 100))), "it was back before its lease ended"


def test_others_may_serve_meanwhile() -> None:
    evidence = cut_off(LONGEST_MS, 2000)
    evidence.servings.append(Serving("b", LONGEST_MS * NS_PER_MS, 2500 * NS_PER_MS, 9))
    assert not list(none_serves_without_a_lease(evidence))


def test_nothing_is_said_of_a_node_that_something_else_may_have_brought_back() -> None:
    evidence = cut_off(3000, 2000)
    evidence.struck.append(replace(evidence.struck[0], kind="flapping"))
    assert not list(none_serves_without_a_lease(evidence))
