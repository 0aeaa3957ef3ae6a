"""The checker of the registry's order agrees with one that tries every order."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, permutations
from typing import Literal, get_args

import pytest

from tests.chaos.checkers.registry import registry_is_linearizable
from tests.chaos.evidence import Evidence, RegistryOperation

Kind = Literal["create", "delete", "pause", "resume"]
Outcome = Literal["ok", "refused", "unknown"]


def found(operations: list[RegistryOperation]) -> list[str]:
    """What is wrong."""
    return [one.what for one in registry_is_linearizable(Evidence(registry=operations))]


def change(
    kind: Kind, begun_ns: int, ended_ns: int, outcome: Outcome = "ok", degree: int | None = None
) -> RegistryOperation:
    """One of anybody's."""
    return RegistryOperation("anna", kind, degree, "a", begun_ns, ended_ns, outcome)


def look(degree: int | None, begun_ns: int, ended_ns: int) -> RegistryOperation:
    """What was seen."""
    return RegistryOperation("bert", "look", degree, "b", begun_ns, ended_ns, "ok")


def agrees(order: tuple[RegistryOperation, ...]) -> bool:
    """Whether each could have had its outcome, one after the other, none after one that began after its end."""
    there = False
    for place, one in enumerate(order):
        if any(one.begun_ns > later.ended_ns for later in order[place + 1 :] if later.outcome != "unknown"):
            return False
        if one.outcome == "refused" and there is not (one.kind == "create"):
            return False
        if one.outcome == "ok" and there is (one.kind == "create"):
            return False
        if one.outcome != "refused" and (one.kind in ("create", "delete")):
            there = one.kind == "create"
    return True


def has_an_order(operations: list[RegistryOperation]) -> bool:
    """By trying all: what had no answer may be left out."""
    known = [one for one in operations if one.outcome != "unknown"]
    unknown = [one for one in operations if one.outcome == "unknown"]
    return any(
        agrees(order)
        for count in range(len(unknown) + 1)
        for some in combinations(unknown, count)
        for order in permutations([*known, *some])
    )


def some_operations(chance: random.Random) -> list[RegistryOperation]:
    """A short history without sense."""
    made = []
    for number in range(chance.randint(2, 6)):
        begun_ns = chance.randint(0, 12) * 10 + number
        kind: Kind = chance.choice(get_args(Kind))
        outcome: Outcome = chance.choice(get_args(Outcome))
        made.append(change(kind, begun_ns, begun_ns + chance.randint(1, 50), outcome, 1 if kind == "pause" else None))
    return made


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_whoever_tries_every_order(seed: int) -> None:
    chance = random.Random(seed)
    verdicts = set()
    for _ in range(40):
        operations = some_operations(chance)
        assert (found(operations) == []) is has_an_order(operations), operations
        verdicts.add(has_an_order(operations))
    assert verdicts == {True, False}


def test_what_had_no_answer_may_be_done_late_or_never() -> None:
    created, lost = change("create", 1, 2), change("delete", 3, 4, "unknown")
    refused = change("pause", 50, 51, "refused", 1)
    assert found([created, lost, refused]) == []
    assert found([created, lost, replace(refused, outcome="ok")]) == []
    assert found([created, lost, refused, change("pause", 60, 61, "ok", 1)]) != []


def test_a_look_may_be_old_but_not_of_what_never_was() -> None:
    paused = [change("create", 1, 2), change("pause", 3, 4, "ok", 2), change("pause", 5, 6, "ok", 3)]
    for degree in (None, 0, 2, 3):
        assert found([*paused, look(degree, 10, 11)]) == []
    assert found([*paused, look(4, 10, 11)]) != []
    assert found([*paused, look(3, 1, 2)]) != [], "not before it was asked for"


def test_many_that_have_no_answer_do_not_take_for_ever() -> None:
    lost = [change("pause", 10 + number, 11 + number, "unknown", number) for number in range(200)]
    known = [change("create", 1, 2), *(change("resume", 300 + 2 * number, 301 + 2 * number) for number in range(20))]
    assert found([*known, *lost]) == []
    assert found([*known, *lost, change("create", 400, 401)]) != []
