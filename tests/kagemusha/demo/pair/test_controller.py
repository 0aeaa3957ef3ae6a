"""The demo's controller: tokens rise, nobody serves beside another, in every order of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagemusha.demo.pair.controller import (
    Activate,
    Activated,
    Effect,
    Event,
    GiveUp,
    Mirrored,
    MirrorFailed,
    NodeLost,
    ProgramEnded,
    Rebuild,
    Release,
    Standing,
    step,
)
from transport.checkpoint import Version

FINAL = Version(1, 44, 7)
MIRRORED = Standing("a", token=1, mirror="b")


def killed(node: str = "a", *, final: Version | None = FINAL, fenced: bool = True, by_itself: bool = False) -> Event:
    return ProgramEnded(node, by_itself, fenced, final)


def play(standing: Standing, *events: Event) -> tuple[Standing, list[Effect]]:
    """All effects of some events in a row."""
    effects: list[Effect] = []
    for event in events:
        standing, more = step(standing, event)
        effects += more
    return standing, effects


def test_a_kill_moves_the_program_and_rebuilds_the_old_node_as_a_mirror() -> None:
    standing, effects = play(Standing("a", 1), Mirrored("b"), killed(), Activated("b"), Mirrored("a"))
    assert effects == [Activate("b", 2, FINAL), Release("a"), Rebuild("a", "b", 2)]
    assert standing == Standing("b", 2, mirror="a")


def test_a_crash_goes_on_from_the_newest_checkpoint() -> None:
    _, effects = step(MIRRORED, killed(final=None))
    assert effects == [Activate("b", 2, None)]


def test_a_lost_node_is_not_rebuilt() -> None:
    standing, effects = play(MIRRORED, NodeLost("a", fenced=True), Activated("b"))
    assert effects == [Activate("b", 2, None)]
    assert standing.primary == "b"
    assert standing.mirror is None


@pytest.mark.parametrize(
    ("standing", "event", "why"),
    [
        (MIRRORED, killed(fenced=False), "not fenced"),
        (MIRRORED, killed(by_itself=True), "ended by itself"),
        (MIRRORED, NodeLost("a", fenced=False), "may still serve"),
        (Standing("a", 1), killed(), "no mirror"),
        (Standing("a", 1, promoting="b"), NodeLost("b", fenced=True), "lost while it took over"),
        (Standing("a", 1, promoting="b"), MirrorFailed("b"), "failed while it took over"),
    ],
)
def test_where_nobody_may_serve_it_says_why(standing: Standing, event: Event, why: str) -> None:
    _, effects = step(standing, event)
    assert [type(effect) for effect in effects] == [GiveUp]
    assert isinstance(effects[0], GiveUp)
    assert why in effects[0].why


def test_the_end_of_a_node_that_was_replaced_already_is_no_second_takeover() -> None:
    standing, effects = play(MIRRORED, killed(), NodeLost("a", fenced=True), killed(), Activated("b"))
    assert effects == [Activate("b", 2, FINAL)]
    assert standing == Standing("b", 2, lost=frozenset("a"))


def test_late_news_of_a_mirror_that_serves_by_now_make_it_no_mirror() -> None:
    standing, effects = play(MIRRORED, killed(), Mirrored("b"), Activated("b"), Mirrored("b"))
    assert standing.mirror is None
    assert effects == [Activate("b", 2, FINAL), Release("a"), Rebuild("a", "b", 2)]


NODES = st.sampled_from("ab")
EVENTS = st.one_of(
    st.builds(Mirrored, NODES),
    st.builds(MirrorFailed, NODES),
    st.builds(ProgramEnded, NODES, st.booleans(), st.booleans(), st.sampled_from([None, FINAL])),
    st.builds(NodeLost, NODES, st.booleans()),
    st.builds(Activated, NODES),
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_tokens_rise_and_nobody_is_activated_before_the_primary_has_ended(events: list[Event]) -> None:
    standing, tokens, ended = Standing("a", 1), [1], False
    for event in events:
        if isinstance(event, ProgramEnded) and event.node == standing.primary:
            ended = ended or (event.fenced and not event.by_itself)
        if isinstance(event, NodeLost) and event.node == standing.primary:
            ended = ended or event.fenced
        standing, effects = step(standing, event)
        for effect in effects:
            if isinstance(effect, Activate):
                assert ended
                assert effect.token > tokens[-1]
                assert effect.node != standing.primary
                tokens.append(effect.token)
        if isinstance(event, Activated) and standing.primary == event.node:
            ended = False
