"""The checker of partitions finds two that serve at once, and nothing where there is nothing."""

from __future__ import annotations

import random

import pytest

from tests.partitions.faults import HERE, KINDS, THERE, Kind, fault
from tests.partitions.judge import ANYBODY, Heard, Sign, Turn, handovers_ms, lost, overlaps, primaries_of, turns, twice

MS = 1_000_000


def signs(text: str) -> list[Sign]:
    """One answer each millisecond, by the node of this letter."""
    return [Sign(number * MS, node) for number, node in enumerate(text) if node != "."]


def test_turns_are_told_from_answers_in_any_order() -> None:
    assert turns(reversed(signs("aa.a..bb"))) == [Turn("a", 0, 3 * MS), Turn("b", 6 * MS, 7 * MS)]
    assert handovers_ms(turns(signs("aa.a..bb"))) == [3.0]


@pytest.mark.parametrize(
    ("text", "primaries"),
    [
        ("aaa..bbb", ["a", "b"]),
        ("aaa", ["a", "b"]),  # made the primary, but never asked
        ("aa..cc", ["a", "b", "c"]),
        ("aa.b.aa", ["a", "b", "a"]),
        ("aa..bb", ["a", ANYBODY]),
    ],
)
def test_who_was_made_the_primary_may_serve(text: str, primaries: list[str]) -> None:
    assert not overlaps(turns(signs(text)), primaries)


@pytest.mark.parametrize(
    ("text", "primaries"),
    [
        ("aaabab", ["a", "b"]),  # beside it
        ("aaabbba", ["a", "b"]),  # one late answer is enough
        ("baaa", ["a", "b"]),  # before it
        ("aac", ["a", "b"]),  # nobody made it one
        ("abab", ["a", "b", "a"]),
        ("aba", ["a", ANYBODY]),
    ],
)
def test_whoever_serves_beside_another_is_found(text: str, primaries: list[str]) -> None:
    assert overlaps(turns(signs(text)), primaries)


def test_a_value_that_one_node_gives_out_twice_is_found_and_one_that_was_lost_is_not() -> None:
    first = [Heard("client", "a", number * MS, number) for number in range(1, 6)]
    assert twice([*first, Heard("other", "a", 9 * MS, 3)])
    again = [Heard("other", "b", (10 + number) * MS, number) for number in range(4, 9)]
    assert not twice([*first, *again])
    assert lost([*first, *again]) == 2
    assert lost([*first, Heard("other", "b", 10 * MS, 6)]) == 0
    swapped = [Heard("client", "a", 2 * MS, 1), Heard("other", "a", MS, 2)]
    assert lost(swapped) == 0


def test_a_token_that_nobody_saw_may_be_anybodys() -> None:
    assert primaries_of({1: "a", 3: "c"}, 1, 3) == ["a", ANYBODY, "c"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_cuts_what_it_says(kind: Kind) -> None:
    one = fault(kind, "a", "b", ("a", "b", "c"), random.Random(1))
    both = {(receiver, sender) for sender, receiver in one.ways}
    assert one.node == ("b" if kind.startswith("leader") else "a")
    assert (both == one.ways) is not kind.endswith(("_in", "_out"))
    assert len(one.holds_s) % 2 == 1
    clients = {end for way in one.ways for end in way} & {HERE, THERE}
    assert clients == {HERE, THERE}
    if kind.endswith("_in"):
        assert {receiver for _, receiver in one.ways} == {one.node, HERE}
    if kind.endswith("_out"):
        assert {sender for sender, _ in one.ways} == {one.node, HERE}
    if kind == "bridge":
        nodes = {way for way in one.ways if not set(way) & {HERE, THERE}}
        assert len(nodes) == 2
    if kind == "everybody":
        assert {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")} <= one.ways
        assert not one.served
