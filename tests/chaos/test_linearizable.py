"""The checker of the registry's order agrees with one that tries every order."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, permutations
from typing import Literal, get_args

import pytest

from tests.chaos.checkers.registry import OLD_S, UNANSWERED_S, registry_is_linearizable
from tests.chaos.evidence import NS_PER_S, Evidence, RegistryOperation

Kind = Literal["create", "delete", "pause", "resume", "read"]
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
    state: int | None = None
    for place, one in enumerate(order):
        if any(one.begun_ns > later.ended_ns for later in order[place + 1 :] if later.outcome != "unknown"):
            return False
        there = state is not None
        if one.kind == "read":
            if state != one.degree:
                return False
        elif one.outcome != "unknown" and (one.outcome == "ok") is (there is (one.kind == "create")):
            return False
        elif one.outcome != "refused":
            state = after(one, state)
    return True


def after(one: RegistryOperation, state: int | None) -> int | None:
    """What it does, where it can do something."""
    if one.kind == "create":
        return 0 if state is None else state
    if one.kind == "delete" or state is None:
        return None
    return one.degree if one.kind == "pause" else 0


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
        outcome: Outcome = "ok" if kind == "read" else chance.choice(get_args(Outcome))
        degree = chance.randint(0, 2) if kind == "read" else chance.randint(1, 2) if kind == "pause" else None
        made.append(change(kind, begun_ns, begun_ns + chance.randint(1, 50), outcome, degree))
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


def test_what_had_no_answer_is_not_done_after_minutes() -> None:
    late_ns = UNANSWERED_S * NS_PER_S
    created, lost = change("create", 1, 2), change("delete", 3, 4, "unknown")
    refused = change("pause", late_ns + 60, late_ns + 61, "refused", 1)
    assert found([created, lost, refused]) == [], "it was done in time"
    between = change("pause", late_ns + 40, late_ns + 41, "ok", 1)
    assert found([created, lost, between]) == [], "it never was"
    assert found([created, lost, between, refused]) != [], "it was not, and then it was"
    many = [change("delete", 10 + number, 11 + number, "unknown") for number in range(9)]
    assert found([created, lost, *many, between, refused]) != []


def test_what_had_no_answer_may_be_done_by_way_of_another() -> None:
    """Both are over before anybody sees what they have done."""
    lost = [change("create", 1, 2, "unknown"), change("pause", 3, 4, "unknown", 7)]
    late_ns = UNANSWERED_S * NS_PER_S + 100
    assert found([*lost, change("read", late_ns, late_ns + 1, "ok", 7)]) == []
    assert found([*lost, change("read", late_ns, late_ns + 1, "ok", 8)]) != []


def test_a_look_may_be_old_but_not_for_ever() -> None:
    old_ns = OLD_S * NS_PER_S
    paused = [change("create", 1, 2), change("pause", 3, 4, "ok", 2), change("pause", 5, 6, "ok", 3)]
    assert found([*paused, look(2, old_ns, old_ns + 1)]) == []
    assert found([*paused, look(3, 2 * old_ns, 2 * old_ns + 1)]) == [], "it still is"
    assert found([*paused, look(2, 2 * old_ns, 2 * old_ns + 1)]) != []


def test_a_look_may_see_what_is_not_answered_yet() -> None:
    assert found([change("create", 1, 9), look(0, 3, 4)]) == []
    assert found([change("create", 5, 9), look(0, 3, 4)]) != []


def test_many_that_have_no_answer_do_not_take_for_ever() -> None:
    lost = [change("pause", 10 + number, 11 + number, "unknown", number) for number in range(60)]
    known = [change("create", 1, 2), *(change("resume", 300 + 2 * number, 301 + 2 * number) for number in range(20))]
    assert found([*known, *lost]) == []
    assert found([*known, *lost, change("create", 400, 401)]) != []


def test_a_run_of_hours_is_judged() -> None:
    """Three at a time; one answer in five is lost, and what was lost may have been done."""
    chance, state, made, at_ns = random.Random(1), None, list[RegistryOperation](), 0
    for _ in range(400):
        at_ns += 10
        kind: Kind = chance.choice(("create", "delete", "resume", *("pause",) * 5))
        one = change(
            kind, at_ns, at_ns + chance.randint(1, 30), "unknown", chance.randint(1, 12) if kind == "pause" else None
        )
        lost, could = chance.random() < 0.2, (state is None) is (kind == "create")
        if not (lost and chance.random() < 0.5):
            state = after(one, state)
        made.append(one if lost else replace(one, outcome="ok" if could else "refused", ended_ns=one.begun_ns + 1))
        if not lost and could and kind in ("pause", "resume"):
            made.append(change("read", one.begun_ns + 1, one.begun_ns + 2, "ok", state))
    assert found(made) == []
    made.append(change("read", at_ns + 100, at_ns + 101, "ok", 99))
    assert found(made) != []
