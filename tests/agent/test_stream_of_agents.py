"""Primary and mirror joined: what the mirror holds is always what was published, however the network behaves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import RestoreError
from agent.primary.encoding import CHUNK_PAGES
from tests.agent.joined import Joined, Notebook
from transport.checkpoint import NOTHING, PART_PAGES, Version
from transport.messages import Announce

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40), st.integers(0, 3)),
        st.tuples(st.just("record"), st.sampled_from(["fd/1", "fd/2", "layout"]), st.binary(max_size=1)),
        st.tuples(st.just("close"), st.sampled_from(["fd/1", "fd/2"])),
        st.sampled_from([("checkpoint",), ("connect",), ("cut",), ("to mirror",), ("to primary",), ("settle",)]),
    ),
    max_size=80,
)


def perform(joined: Joined, step: tuple[object, ...]) -> None:
    """One step of a random schedule."""
    match step:
        case ("write", int(page), int(word)):
            joined.program.write(page, word)
        case ("record", str(key), bytes(value)):
            joined.program.records[key] = value
        case ("close", str(key)):
            joined.program.records.pop(key, None)
        case ("checkpoint",):
            joined.checkpoint()
        case ("connect",):
            joined.connect()
        case ("cut",):
            joined.cut()
        case ("to mirror",):
            joined.to_mirror()
        case ("to primary",):
            joined.to_primary()
        case _:
            joined.settle()


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_the_mirror_holds_a_published_state_and_in_the_end_the_newest(steps: list[tuple[object, ...]]) -> None:
    joined = Joined()
    for step in steps:
        perform(joined, step)
        joined.check()
    joined.connect()
    newest = joined.checkpoint()
    joined.settle()
    joined.check()
    assert joined.follower.version == newest


def test_a_first_transfer_of_many_chunks_while_the_program_goes_on() -> None:
    joined = Joined()
    for page in range(3 * CHUNK_PAGES):
        joined.program.write(page, page + 1)
    joined.checkpoint()
    joined.connect()
    for word in range(20):
        joined.program.write(word, 7)
        joined.program.records["layout"] = b"%d" % word
        joined.checkpoint()
        joined.to_primary()
        joined.to_mirror()
        assert joined.follower.progress.total in (0, 3 * CHUNK_PAGES)
    joined.settle()
    joined.check()
    assert joined.follower.progress.done
    assert joined.follower.version == joined.encoder.version


def test_a_mirror_that_lags_gets_one_union_of_what_it_missed() -> None:
    joined = Joined()
    joined.program.write(1, 1)
    joined.checkpoint()
    joined.connect()
    joined.settle()
    for word in range(2, 12):
        joined.program.write(word % 3, word)
        joined.checkpoint()
    applied = joined.follower.applied
    joined.settle()
    joined.check()
    assert joined.follower.version == joined.encoder.version
    assert joined.follower.applied - applied == 3  # two deltas on credit, and the union


def test_a_union_larger_than_a_part() -> None:
    joined = Joined()
    joined.checkpoint()
    joined.connect()
    joined.settle()
    joined.cut()
    for page in range(PART_PAGES):
        joined.program.write(page, 5)
    joined.checkpoint()
    joined.program.write(PART_PAGES, 5)
    joined.checkpoint()
    joined.connect()
    joined.settle()
    joined.check()
    assert len(joined.doubles) == 1, "it went on from what it held"


def test_a_shadow_that_does_not_hold_its_base_gets_everything_anew() -> None:
    joined = Joined()
    joined.program.write(1, 1)
    joined.checkpoint()
    joined.connect()
    joined.settle()
    joined.doubles[0].pages[1] = 99
    joined.program.write(1, 2)
    joined.checkpoint()
    joined.settle()
    joined.check()
    assert len(joined.doubles) == 2
    assert joined.follower.resyncs == 1
    assert joined.session.counters.failed_apply == 1


def test_an_application_that_fails_gets_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = Joined()
    joined.checkpoint()
    joined.connect()
    joined.settle()
    failures = [RestoreError("no room")]

    def fail(notebook: Notebook, records: object) -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(Notebook, "prepare", fail)
    joined.checkpoint()
    joined.settle()
    joined.check()
    assert joined.follower.version == joined.encoder.version
    assert len(joined.doubles) == 2


def test_a_promoted_primary_serves_who_held_the_same_state_by_a_union_of_everything() -> None:
    held = Version(1, 9, 77)
    joined = Joined(token=2, start=held)
    joined.connect()
    joined.to_primary()
    assert not joined.outbound, "there is nothing to be sent before its own first checkpoint"
    joined.program.write(3, 4)
    first = joined.checkpoint()
    joined.settle()
    joined.check()
    assert (first.token, first.number) == (2, 10)
    assert joined.follower.version == first


def test_the_last_checkpoint_of_a_program_says_so_to_mirrors_that_lag_too() -> None:
    joined = Joined()
    joined.checkpoint()
    joined.connect()
    joined.settle()
    for _ in range(4):
        joined.checkpoint()
    joined.checkpoint(final=True)
    joined.settle()
    header = joined.follower.held.header
    assert header is not None
    assert header.final
    assert joined.follower.version == joined.encoder.version


def test_a_retired_follower_hears_nothing_more() -> None:
    joined = Joined()
    joined.checkpoint()
    joined.connect()
    joined.settle()
    held = joined.follower.version
    joined.follower.retire()
    joined.program.write(1, 1)
    joined.checkpoint()
    joined.settle()
    assert joined.follower.version == held
    assert joined.doubles[0].pages == {}


def test_announced_connections_are_kept_until_they_are_closed() -> None:
    joined = Joined()
    one, other = ("10.0.0.1", 80, "10.0.0.2", 1000), ("10.0.0.1", 80, "10.0.0.2", 1001)
    joined.connect()
    joined.follower.event(Announce((one, other), ()))
    joined.follower.event(Announce((), (one,)))
    assert list(joined.follower.held.opened) == [other]
    assert joined.follower.version == NOTHING
