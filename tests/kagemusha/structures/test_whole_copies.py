"""Whole copies that are made in pieces while the program goes on, and what goes on without one after a promotion."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from kagemusha.structures.dicts import Dict
from kagemusha.structures.errors import Refused
from kagemusha.structures.lists import List
from kagemusha.structures.outgoing import Outgoing
from kagemusha.structures.structure import Structure, Update
from kagemusha.structures.values import Types
from kagemusha.structures.whole_copy import Unsettled, WholeCopy
from tests.kagemusha.structures.world import ROOTS, Account, Step, image, perform, steps

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TRACKED = ("Dict", "List", "Deque", "short Deque", "Set", "Account")
rounds = st.lists(steps, max_size=6)
plain_steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "reorder", "update"]), st.just(0), st.integers(0, 12), st.just(2)
    ),
    max_size=6,
)


def named(kind: str) -> Structure:
    return Structure("s", ROOTS[kind](), Types())


def pack(copy: WholeCopy) -> None:
    """Pack all that is left."""
    while copy.step():
        pass


def in_pieces(original: Structure, meanwhile: list[list[Step]]) -> tuple[Update, list[Update]]:
    """Make a whole copy, changing the original between its pieces; return it, and the deltas of that time."""
    copy = original.begin_whole(2)
    deltas: list[Update] = []
    waiting = list(meanwhile)
    try:
        more = True
        while more or waiting:
            for step in waiting.pop(0) if waiting else []:
                perform(original.graph.root, step)
            delta = original.take()
            deltas += [] if delta is None else [delta]
            more = copy.step()
        return original.end_whole()(), deltas
    except Unsettled:
        return original.whole(), deltas


@pytest.mark.parametrize("kind", ROOTS)
@pytest.mark.parametrize("is_new", [False, True])
def test_a_copy_in_pieces_is_what_all_deltas_lead_to(kind: str, is_new: bool) -> None:
    @quick
    @given(rounds, rounds, steps)
    def run(before: list[list[Step]], meanwhile: list[list[Step]], after: list[Step]) -> None:
        original, follower, fresh = named(kind), named(kind), named(kind)
        first = original.take()
        assert first is not None
        follower.apply(first)
        for part in before:
            for step in part:
                perform(original.graph.root, step)
            if (delta := original.take()) is not None:
                follower.apply(delta)
        if is_new:
            original.lose()
        whole, deltas = in_pieces(original, meanwhile)
        if not is_new:
            for delta in deltas:
                follower.apply(delta)
            assert follower.holds == original.holds
            assert image(follower.graph.root) == image(original.graph.root)
        assert fresh.apply(whole)
        assert fresh.holds == original.holds
        assert image(fresh.graph.root) == image(original.graph.root)
        for step in after:
            perform(original.graph.root, step)
        last = original.take()
        if last is not None:
            assert fresh.apply(last)
        assert image(fresh.graph.root) == image(original.graph.root)

    run()


@quick
@given(st.lists(plain_steps, max_size=8))
def test_large_dicts_are_copied_in_pieces_and_keep_their_order(meanwhile: list[list[Step]]) -> None:
    original, fresh = Structure("s", Dict({n: (n, "row") for n in range(9)}), Types()), named("Dict")
    original.take()
    copy = original.begin_whole(2)
    assert not copy.is_packed
    for part in meanwhile:
        copy.step()
        for step in part:
            perform(original.graph.root, step)
        original.take()
    pack(copy)
    assert fresh.apply(original.end_whole()())
    assert list(fresh.graph.root.items()) == list(original.graph.root.items())


@pytest.mark.parametrize(
    "root",
    [
        Dict({n: [n] for n in range(5)}),
        Dict({n: (n, [n]) for n in range(5)}),
        Dict({n: Account(n) for n in range(5)}),
        Dict({**{n: n for n in range(4)}, "last": object()}),
        List([bytearray(b"x")] * 5),
    ],
)
def test_what_could_change_meanwhile_is_copied_at_one_instant(root: Any) -> None:
    original = Structure("s", root, Types())
    with pytest.raises(Unsettled):
        pack(original.begin_whole(2))


def test_a_list_is_copied_in_pieces() -> None:
    original, fresh = Structure("s", List(range(7)), Types()), named("List")
    copy = original.begin_whole(3)
    original.graph.root.insert(0, "new")
    original.take()
    pack(copy)
    assert fresh.apply(original.end_whole()())
    assert fresh.graph.root == ["new", *range(7)]


def test_what_was_changed_since_the_last_delta_is_kept_from_nobody() -> None:
    """A copy that another thread asks for may come at any time."""
    original, follower = named("Dict"), named("Dict")
    first = original.take()
    assert first is not None
    follower.apply(first)
    original.graph.root["late"] = 1
    whole = original.whole()
    assert follower.apply(whole)
    assert follower.graph.root == {"late": 1}
    assert follower.holds == original.holds


# ------------------------------------------------------------ after a promotion


@pytest.mark.parametrize("kind", ROOTS)
def test_who_holds_the_same_follows_the_promoted_one_and_nobody_else_does(kind: str) -> None:
    @quick
    @given(rounds, st.lists(st.booleans(), min_size=6, max_size=6), rounds)
    def run(before: list[list[Step]], reaches: list[bool], after: list[list[Step]]) -> None:
        original, promoted, other = named(kind), named(kind), named(kind)
        is_settled = kind in TRACKED
        for number, part in enumerate([[], *before]):
            for step in part:
                perform(original.graph.root, step)
                is_settled = is_settled and all_settled(original.graph.root)
            if (delta := original.take()) is not None:
                assert promoted.apply(delta)
                if not number or reaches[number - 1]:
                    follow(other, delta)
        held = promoted.holds
        promoted.lead(2)
        assert promoted.holds == held if is_settled else promoted.holds in {held, None}
        is_same = other.holds == held
        for part in after:
            for step in part:
                perform(promoted.graph.root, step)
            must_follow = is_same or promoted.holds is None
            if (delta := promoted.take()) is not None:
                is_same = follow(other, delta)
                assert is_same == must_follow
            if is_same:
                assert other.holds == promoted.holds
                assert image(other.graph.root) == image(promoted.graph.root)
        other.apply(promoted.whole())
        assert image(other.graph.root) == image(promoted.graph.root)

    run()


def follow(copy: Structure, update: Update) -> bool:
    """Apply it if it follows; return whether it did."""
    try:
        return copy.apply(update)
    except Refused as refused:
        if refused.code != "gap":
            raise
        return False


def all_settled(root: Any) -> bool:
    """Whether there is nothing in it that could change without telling."""
    kinds = ("list", "dict", "deque", "set", "bytearray", "ndarray", "Note")
    return not any(f"('{kind}'" in repr(image(root)) for kind in kinds)


def test_what_a_mirror_has_changed_itself_is_never_taken_for_the_original() -> None:
    original, copied = named("Dict"), named("Dict")
    first = original.take()
    assert first is not None
    copied.apply(first)
    copied.graph.root["mine"] = 1
    copied.lead(2)
    assert copied.holds is None


def test_numbers_of_containers_that_are_gone_do_not_come_again() -> None:
    original, follower, fresh = named("Dict"), named("Dict"), named("Dict")
    for _ in range(2):
        original.graph.root["inner"] = List([1])
        update = original.take()
        assert update is not None
        follower.apply(update)
    del original.graph.root["inner"]
    update = original.take()
    assert update is not None
    follower.apply(update)
    fresh.apply(original.whole())
    fresh.lead(2)
    fresh.graph.root["other"] = List([2])
    update = fresh.take()
    assert update is not None
    assert not update.is_whole
    follower.apply(update)
    assert follower.graph.root == {"other": [2]}


# ------------------------------------------------------------ the order on the wire


def written(outgoing: Outgoing) -> bytes:
    """All that can be written now, in small bits."""
    found = b""
    while frame := outgoing.first():
        found += bytes(frame[:3])
        outgoing.written(len(frame[:3]))
    return found


def test_nothing_overtakes_what_has_its_place_already() -> None:
    outgoing = Outgoing()
    outgoing.add({"kind": "a"})
    place = outgoing.reserve()
    outgoing.add({"kind": "c"})
    first = written(outgoing)
    assert b"a" in first
    assert not outgoing.is_ready
    place.fill([{"kind": "b1"}, {"kind": "b2"}])
    rest = written(outgoing)
    assert rest.index(b"b1") < rest.index(b"b2") < rest.index(b"c")
    assert not outgoing
