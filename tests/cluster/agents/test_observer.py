"""Stops by the watchdog are counted once each, however short they were."""

from __future__ import annotations

from cluster.agents.observer import Stops


def looks(*seen: tuple[int, bool]) -> list[int]:
    """What each look found new; seen: returns, and whether it is stopped."""
    stops = Stops()
    return [stops.look(returns, stopped=stopped) for returns, stopped in seen]


def test_a_stop_that_is_seen_is_one() -> None:
    assert looks((0, False), (0, True), (0, True), (1, False), (1, False)) == [0, 1, 0, 0, 0]


def test_one_that_was_over_before_a_look_is_one_too() -> None:
    assert looks((0, False), (1, False), (3, False)) == [0, 1, 2]


def test_stopped_let_go_and_stopped_again_between_two_looks() -> None:
    assert looks((0, True), (1, True)) == [1, 1]


def test_what_a_slot_had_counted_before_does_not_count() -> None:
    assert looks((7, False), (7, False), (8, False)) == [0, 0, 1]
    assert looks((7, True)) == [1]
