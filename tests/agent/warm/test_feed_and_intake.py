"""What a mirror says that it holds, it holds: whatever is cut, restarted or late between it and its primary."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.warm.feed import STALL_NS
from agent.warm.feed_events import Flowing, Jammed, Joined, Nothing, Stands, Supplied
from agent.warm.intake import Own
from tests.agent.warm.paired import LIMIT_BYTES, NAMES, TYPE, Pair
from transport.checkpoint import NOTHING
from transport.structure_messages import Declare

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["change", "change", "reconnect"]), st.sampled_from(NAMES), st.integers(0, 1000)),
        st.sampled_from(
            [
                ("tick",),
                ("connect",),
                ("cut",),
                ("restart",),
                ("jam",),
                ("flow",),
                ("to mirror",),
                ("to primary",),
                ("apply",),
                ("settle",),
                ("promote", True),
                ("promote", False),
                ("stand",),
            ]
        ),
    ),
    max_size=80,
)


def perform(pair: Pair, step: tuple[object, ...]) -> None:
    match step:
        case ("change", str(name), int(content)):
            pair.change(name, content)
        case ("reconnect", str(name), int(content)):
            pair.reconnect(name, content)
        case ("tick",):
            pair.tick()
        case ("connect",):
            pair.connect()
        case ("cut",):
            pair.cut()
        case ("restart",):
            pair.restart_program()
        case ("jam",):
            pair.tell(Jammed(pair.number))
        case ("flow",):
            pair.tell(Flowing(pair.number))
        case ("to mirror",):
            pair.to_mirror()
        case ("to primary",):
            pair.to_primary()
        case ("apply",):
            pair.apply()
        case ("promote", bool(keeps)):
            pair.promote(keeps=keeps)
        case ("stand",):
            pair.stand()
        case _:
            pair.settle()


@given(STEPS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_mirror_holds_what_it_says_and_in_the_end_the_newest(
    steps: list[tuple[object, ...]], begins_in_step: bool
) -> None:
    pair = Pair()
    if begins_in_step:  # Only who is in step can be promoted.
        pair.connect()
        pair.settle()
        pair.tick()
        pair.settle()
    for step in steps:
        perform(pair, step)
        pair.check()
    pair.connect()
    pair.settle()
    pair.tell(Flowing(pair.number))
    pair.settle()
    pair.tick(final=True)
    pair.settle()
    pair.check()
    assert pair.dropped == []
    assert pair.intake.version == pair.feed.version
    assert {name: pair.mirror[name][2] for name in NAMES} == {name: one.content for name, one in pair.originals.items()}


def test_who_is_in_step_gets_updates_and_no_whole_copies() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    wholes = pair.wholes
    for content in range(5):
        pair.change("book", content)
        pair.settle()
    assert pair.wholes == wholes
    assert pair.confirmed["book"] == (pair.originals["book"].version, 1)


def test_a_commit_is_safe_only_when_the_mirror_has_applied_it() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    before = pair.confirmed["book"]
    pair.change("book", 7)
    while pair.down:
        pair.to_mirror()
    pair.to_primary()
    assert pair.confirmed["book"] == before
    pair.settle()
    assert pair.confirmed["book"] == (before[0] + 1, 1)


def test_without_a_mirror_nobody_is_waited_for() -> None:
    pair = Pair()
    pair.change("book", 7)
    assert pair.confirmed["book"] == (pair.originals["book"].version, 0)


def test_a_mirror_that_comes_back_with_the_same_needs_no_whole_copy() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    wholes = pair.wholes
    pair.cut()
    pair.connect()
    pair.tick()
    pair.settle()
    assert pair.wholes == wholes
    assert pair.intake.version == pair.feed.version


@pytest.mark.parametrize("is_early", [False, True])
def test_a_mirror_that_holds_what_a_promoted_one_holds_needs_no_whole_copy(is_early: bool) -> None:
    pair = Pair()
    pair.connect()
    pair.change("book", 7)
    pair.tick()
    pair.settle()
    wholes = pair.wholes
    pair.promote(keeps=True)
    if is_early:
        # It asks before the program has said what it goes on from.
        pair.connect()
        while pair.up or pair.down:
            pair.to_mirror()
            pair.to_primary()
    pair.stand()
    pair.connect()
    pair.settle()
    pair.change("book", 8)
    pair.settle()
    assert pair.wholes == wholes
    assert pair.intake.version == pair.feed.version
    assert pair.feed.version.token == 2
    assert pair.mirror["book"][2] == 8


@pytest.mark.parametrize("is_early", [False, True])
def test_a_mirror_that_is_ahead_of_a_promoted_one_gets_a_whole_copy(is_early: bool) -> None:
    pair = Pair()
    pair.connect()
    pair.tick()
    pair.settle()
    pair.cut()
    pair.change("book", 7)
    wholes = pair.wholes
    pair.promote(keeps=True)
    if is_early:
        pair.connect()
        while pair.up or pair.down:
            pair.to_mirror()
            pair.to_primary()
        assert pair.wholes == wholes
    pair.stand()
    pair.connect()
    pair.settle()
    pair.tick()
    pair.settle()
    assert pair.wholes == wholes + 1
    assert pair.intake.version == pair.feed.version
    assert pair.mirror["book"][2] == 0


def test_what_a_program_sent_over_a_connection_that_broke_comes_as_a_whole_copy() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    wholes = pair.wholes
    pair.reconnect("book", 7)
    pair.change("book", 8)
    pair.settle()
    assert pair.wholes == wholes + 1
    assert pair.intake.version == pair.feed.version
    assert pair.mirror["book"][2] == 8


def test_no_mark_is_made_before_the_program_has_said_that_there_is_nothing_newer() -> None:
    pair = Pair()
    pair.connect()
    pair.tick()
    pair.settle()
    pair.promote(keeps=True)
    for name, one in pair.originals.items():
        pair.tell(Stands(name, (one.version, one.state)))
    pair.tick()
    assert pair.feed.version == NOTHING
    pair.tell(Nothing("program", 7))
    pair.tick()
    assert pair.feed.marks.newest is not None
    assert pair.feed.marks.newest.captured_ns == 7


def test_a_mirror_of_another_type_is_given_nothing_and_says_why() -> None:
    pair = Pair()
    pair.intake.step(Own("book", False, b"a text", None))
    pair.connect()
    pair.settle()
    pair.tick()
    pair.settle()
    assert "book" not in pair.mirror
    assert "table" in pair.mirror
    assert pair.intake.version == NOTHING
    assert pair.intake.missing() == "structure book has another type here than on the primary, where it is number"


def test_a_structure_that_the_mirror_lacks_is_named() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    pair.tell(Supplied(Declare("more", False, TYPE, "number", LIMIT_BYTES)))
    pair.settle()
    assert pair.intake.missing() == "the program here has no structure more yet"


def test_a_mirror_that_hangs_is_dropped_and_nobody_waits_for_it_any_more() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    pair.change("book", 7)
    pair.now_ns += STALL_NS
    assert pair.confirmed["book"][0] < pair.originals["book"].version
    pair.tick()
    assert pair.dropped == ["reaches no mark for 10 s"]
    assert pair.confirmed["book"] == (pair.originals["book"].version, 0)


def test_who_has_seen_a_higher_token_is_sent_away() -> None:
    pair = Pair()
    pair.tell(Joined(9, "paired", "paired@c", 1, NOTHING, 2))
    assert pair.dropped == ["superseded: token 2 has been seen, 1 is ours"]
