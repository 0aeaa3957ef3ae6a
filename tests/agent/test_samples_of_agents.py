"""Structures read between checkpoints: the shadow stays a checkpoint, and a takeover finds the newest reading."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.mirror.samples_held import SamplesHeld
from agent.structures.sample import HeldSample
from tests.agent.sampled_joined import BASE, INDEPENDENT, SHOWN, SIZE, SampledJoined, bytes_of
from transport.checkpoint import Version
from transport.messages import Place

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(0, SIZE - 8), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("store"), st.integers(4096, 3 * 4096 + 200), st.sampled_from([b"\0", b"\1", b"\2"])),
        st.sampled_from([("sample",), ("sample",), ("sample the other",), ("checkpoint",)]),
        st.sampled_from([("connect",), ("cut",), ("to mirror",), ("to mirror",), ("to primary",), ("settle",)]),
        st.sampled_from([("lose",), ("repeat",), ("damage",), ("swap",)]),
    ),
    max_size=80,
)
AT = INDEPENDENT.address - BASE


def perform(joined: SampledJoined, step: tuple[object, ...]) -> None:
    """One step of a random schedule."""
    match step:
        case ("store", int(at), bytes(value)):
            joined.program.store(at, value)
        case ("sample",):
            joined.sample(INDEPENDENT)
        case ("sample the other",):
            joined.sample(SHOWN)
        case (str(name),):
            getattr(joined, name.replace(" ", "_"))()


def run(steps: list[tuple[object, ...]]) -> SampledJoined:
    joined = SampledJoined()
    for step in steps:
        perform(joined, step)
        joined.check()
    return joined


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_after_the_next_checkpoint_the_shadow_is_the_primary_whatever_came_in_between(
    steps: list[tuple[object, ...]],
) -> None:
    joined = run(steps)
    joined.connect()
    newest = joined.checkpoint()
    joined.settle()
    joined.check()
    assert joined.follower.version == newest
    assert joined.found_by_a_takeover() == bytes(joined.program.content)


@given(STEPS, st.binary(min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_a_takeover_finds_the_newest_reading_and_of_all_else_the_checkpoint(
    steps: list[tuple[object, ...]], value: bytes
) -> None:
    joined = run(steps)
    joined.connect()
    joined.checkpoint()
    joined.settle()
    before = bytes(joined.program.content)
    joined.program.store(AT, value)
    joined.program.store(0, value)
    joined.program.store(SHOWN.address - BASE, value)
    for _ in range(3):  # One that does not fit is answered, and a whole copy follows the next reading.
        joined.sample(INDEPENDENT)
        joined.sample(SHOWN)
        joined.settle()
    joined.check()
    assert joined.found_by_a_takeover() == before[:AT] + value + before[AT + len(value) :]


def in_step() -> SampledJoined:
    """A mirror that holds the first checkpoint and the first reading of both."""
    joined = SampledJoined()
    joined.checkpoint()
    joined.connect()
    joined.settle()
    joined.sample(INDEPENDENT)
    joined.sample(SHOWN)
    joined.settle()
    return joined


def shown(joined: SampledJoined) -> dict[str, HeldSample]:
    return joined.follower.samples.newest(joined.follower.version)


def test_what_is_read_in_between_is_shown_whether_it_is_independent_or_not() -> None:
    joined = in_step()
    joined.program.store(SHOWN.address - BASE, b"next")
    joined.sample(SHOWN)
    joined.settle()
    found = shown(joined)
    assert set(found) == {INDEPENDENT.structure, SHOWN.structure}
    assert found[SHOWN.structure].content.startswith(b"next")
    assert found[SHOWN.structure].captured_ns == 3
    assert b"next" not in joined.found_by_a_takeover()


def test_what_is_excluded_stays_that_of_the_checkpoint() -> None:
    joined = in_step()
    (_, gap), (after, _) = bytes_of(INDEPENDENT)
    joined.program.store(gap, b"lock")
    joined.program.store(after, b"data")
    joined.sample(INDEPENDENT)
    joined.settle()
    found = joined.found_by_a_takeover()
    assert found[gap:after] == bytes(after - gap)
    assert found[after : after + 4] == b"data"


def test_the_next_checkpoint_ends_what_was_read_before_it() -> None:
    joined = in_step()
    joined.program.store(AT, b"A")
    joined.sample(INDEPENDENT)
    joined.program.store(AT, b"\0")  # As it was: the next checkpoint has nothing to send of that page.
    joined.checkpoint()
    joined.settle()
    assert not shown(joined)
    assert joined.found_by_a_takeover()[AT] == 0


def test_a_mirror_that_lags_uses_no_reading_of_a_later_checkpoint() -> None:
    joined = in_step()
    held = joined.follower.version
    joined.program.store(AT, b"B")
    joined.checkpoint()
    joined.sample(INDEPENDENT)
    while joined.follower.version == held and joined.to_mirror():
        pass
    joined.check()
    joined.settle()
    assert joined.found_by_a_takeover()[AT : AT + 1] == b"B"


def test_the_last_checkpoint_of_a_killed_program_is_what_goes_on() -> None:
    joined = in_step()
    joined.program.store(AT, b"old")
    joined.sample(INDEPENDENT)
    joined.program.store(AT, b"new")
    joined.checkpoint(final=True)
    joined.settle()
    assert joined.found_by_a_takeover()[AT : AT + 3] == b"new"


def test_a_shadow_that_is_begun_anew_has_none_until_the_next_reading() -> None:
    joined = in_step()
    joined.byte_doubles[0].rows[1] = 99
    joined.program.store(AT, b"C")
    joined.checkpoint()
    joined.settle()
    assert len(joined.byte_doubles) == 2
    joined.program.store(AT, b"D")
    for _ in range(2):
        joined.sample(INDEPENDENT)
        joined.settle()
    joined.check()
    assert joined.found_by_a_takeover()[AT : AT + 1] == b"D"


def test_what_is_damaged_or_does_not_build_on_what_is_held_is_counted_and_made_up_for() -> None:
    joined = in_step()
    for value, harm in ((b"1", joined.damage), (b"2", joined.lose)):
        joined.program.store(AT, value)
        joined.sample(INDEPENDENT)
        harm()
        joined.program.store(AT, value * 2)
        joined.sample(INDEPENDENT)
        joined.settle()
        joined.sample(INDEPENDENT)
        joined.settle()
        joined.check()
        assert joined.found_by_a_takeover()[AT : AT + 2] == value * 2
    counters = joined.session.counters
    assert (counters.corrupt, counters.wrong_base) == (1, 2)


def test_a_mirror_that_answers_nothing_gets_no_more_than_a_bound() -> None:
    joined = in_step()
    for number in range(200):
        joined.program.store(AT, b"%d" % number)
        joined.sample(INDEPENDENT)
    assert len(joined.outbound) <= 33
    joined.settle()
    joined.sample(INDEPENDENT)
    joined.settle()
    assert joined.found_by_a_takeover()[AT : AT + 3] == b"199"


@pytest.mark.parametrize("place", [(0, 10), (4096, 0), (4096, 9 << 20), (1 << 47, 8)])
def test_a_place_that_can_not_be_is_refused(place: tuple[int, int]) -> None:
    joined = in_step()
    address, size = place
    joined.follower.event(Place("g_other", address, size, ((0, size),)))
    joined.follower.event(Place("g_other", 4096, 8, ((0, 4), (3, 8))))
    joined.follower.event(Place("g_other", 4096, 8, ((0, 1 << 64),)))
    assert joined.session.counters.corrupt == 3


def test_the_checker_finds_a_reading_that_is_applied_over_a_later_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = in_step()
    joined.program.store(AT, b"early")
    joined.sample(INDEPENDENT)
    joined.settle()
    joined.program.store(AT, b"later")
    joined.checkpoint()
    joined.settle()
    joined.check()
    newest = SamplesHeld.newest
    early = next(iter(joined.samples.values()))[1]

    def whatever(held: SamplesHeld, version: Version) -> dict[str, HeldSample]:
        return newest(held, early)

    monkeypatch.setattr(SamplesHeld, "newest", whatever)
    with pytest.raises(AssertionError, match="what never was"):
        joined.check()


def test_the_checker_finds_a_reading_that_is_applied_though_it_is_only_shown() -> None:
    joined = in_step()
    joined.follower.samples._independent = frozenset([INDEPENDENT.structure, SHOWN.structure])
    joined.program.store(SHOWN.address - BASE, b"next")
    joined.sample(SHOWN)
    joined.settle()
    with pytest.raises(AssertionError, match="what never was"):
        joined.check()


def test_the_checker_finds_a_shadow_that_a_reading_has_changed() -> None:
    joined = in_step()
    joined.program.store(AT, b"next")
    joined.sample(INDEPENDENT)
    joined.settle()
    joined.follower.settle()
    with pytest.raises(AssertionError, match="no checkpoint"):
        joined.check()
