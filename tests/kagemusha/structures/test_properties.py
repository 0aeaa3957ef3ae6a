"""Any mutations, any loss, reordering, repetition or damage of updates, any resync: a mirror has what it reports.

The last tests take a check out of the code and show that this one then fails.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from kagemusha.structures.errors import Refused
from kagemusha.structures.structure import Structure, Update, sum_of
from kagemusha.structures.values import Types
from tests.kagemusha.structures.world import ROOTS, Step, image, perform, steps

FATES = ("deliver", "deliver", "deliver", "lose", "repeat", "delay", "damage")
Round = tuple[list[Step], str, bool]
rounds = st.lists(st.tuples(steps, st.sampled_from(FATES), st.booleans()), min_size=1, max_size=8)
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def damaged(data: bytes) -> bytes:
    """Return it with one bit wrong, in its middle."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def pair(kind: str) -> tuple[Structure, Structure]:
    """Return an original and a copy of one kind."""
    types = Types()
    return Structure("s", ROOTS[kind](), types), Structure("s", ROOTS[kind](), types)


class Wire:
    """What lies between the two: it loses, repeats, delays and damages, and carries requests for whole copies back."""

    def __init__(self, kind: str) -> None:
        self.original, self.copy = pair(kind)
        self.images: dict[tuple[int, bytes], Any] = {}
        self._delayed: list[Update] = []
        self._wants_whole = False

    def step(self, mutations: list[Step], fate: str, *, answers: bool) -> None:
        """Change, send with that fate, and judge the copy. `answers`: a request for a whole copy arrives."""
        for mutation in mutations:
            perform(self.original.graph.root, mutation)
        update = self.original.take()
        assert self.original.state is not None
        self.images[self.original.version, self.original.state] = image(self.original.graph.root)
        sent = [update] if update is not None else []
        if self._wants_whole and answers:
            sent.append(self.original.whole())
            self._wants_whole = False
        self._carry(sent, fate)

    def _carry(self, sent: list[Update], fate: str) -> None:
        late, self._delayed = self._delayed, []
        if fate == "delay":
            self._delayed = sent
        elif fate == "damage":
            sent = [dataclasses.replace(one, data=damaged(one.data)) for one in sent]
        elif fate == "repeat":
            sent = sent * 2
        if fate in {"deliver", "damage", "repeat"}:
            for one in [*sent, *late]:
                self._deliver(one)

    def _deliver(self, update: Update) -> None:
        code = ""
        try:
            self.copy.apply(update)
        except Refused as refused:
            code = refused.code
            self._wants_whole = True
        assert code in {"", "gap", "corrupt"}
        if self.copy.holds is not None:
            assert image(self.copy.graph.root) == self.images[self.copy.holds]

    def heal(self) -> None:
        """A whole copy that arrives makes both equal, whatever was before."""
        self.step([], "deliver", answers=False)
        self.step([], "lose", answers=False)
        update = self.original.whole()
        self.images[update.version, update.state] = image(self.original.graph.root)
        self.copy.apply(update)
        assert self.copy.holds == self.original.holds
        assert image(self.copy.graph.root) == image(self.original.graph.root)


@pytest.mark.parametrize("kind", ROOTS)
def test_the_mirror_is_what_it_says(kind: str) -> None:
    @quick
    @given(rounds)
    def run(script: list[Round]) -> None:
        wire = Wire(kind)
        for mutations, fate, answers in script:
            wire.step(mutations, fate, answers=answers)
        wire.heal()

    run()


@pytest.mark.parametrize("kind", ["Dict", "List", "Deque", "list", "Account"])
def test_a_promoted_mirror_goes_on_as_the_original(kind: str) -> None:
    @quick
    @given(rounds, steps, steps)
    def run(script: list[Round], unsent: list[Step], after: list[Step]) -> None:
        wire = Wire(kind)
        for mutations, _, answers in script:
            wire.step(mutations, "deliver", answers=answers)
        wire.copy.lead(2)
        wire.original.follow(2)
        wire.original, wire.copy = wire.copy, wire.original
        for mutation in unsent:
            perform(wire.original.graph.root, mutation)
        wire.step(after, "deliver", answers=True)
        wire.heal()

    run()


def fails(kind: str, script: list[Round]) -> bool:
    """Whether the judge fails on that script."""
    wire = Wire(kind)
    try:
        for mutations, fate, answers in script:
            wire.step(mutations, fate, answers=answers)
    except AssertionError:
        return True
    return False


LOST: list[Round] = [
    ([], "deliver", True),
    ([("put", 0, 1, 2)], "lose", True),
    ([("put", 0, 2, 2)], "deliver", True),
]
DAMAGED: list[Round] = [([], "deliver", True), ([("wiggle", 0, 1, 7)], "damage", True)]


def test_the_judge_fails_without_the_check_of_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Structure.apply

    def apply(self: Structure, update: Update) -> bool:
        if not update.is_whole and self.state is not None:
            lie = sum_of(self.name, update.version, self.state, b"", update.data)
            update = dataclasses.replace(update, base_version=self.version, base=self.state, sum=lie)
        return checked(self, update)

    assert not fails("Dict", LOST)
    monkeypatch.setattr(Structure, "apply", apply)
    assert fails("Dict", LOST)


def test_the_judge_fails_without_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Structure.apply

    def apply(self: Structure, update: Update) -> bool:
        given_state = update.state if update.is_whole else b""
        whatever = sum_of(self.name, update.version, update.base, given_state, update.data)
        return checked(self, dataclasses.replace(update, sum=whatever))

    assert not fails("bytearray", DAMAGED)
    monkeypatch.setattr(Structure, "apply", apply)
    assert fails("bytearray", DAMAGED)
