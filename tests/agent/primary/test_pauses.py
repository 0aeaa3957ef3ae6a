"""Quantiles of the pauses."""

from __future__ import annotations

from agent.primary.pauses import Pauses


def test_quantiles_are_pauses_that_happened() -> None:
    pauses = Pauses()
    for pause_us in range(1, 101):
        pauses.add(pause_us)
    assert (pauses.quantile_us(0.5), pauses.quantile_us(0.99), pauses.max_us) == (50.0, 99.0, 100.0)


def test_none_yet() -> None:
    assert Pauses().quantile_us(0.5) == 0.0


def test_old_pauses_are_forgotten_but_the_longest_is_kept() -> None:
    pauses = Pauses()
    pauses.add(1e6)
    for _ in range(20_000):
        pauses.add(1.0)
    assert pauses.quantile_us(1.0) == 1.0
    assert pauses.max_us == 1e6
    assert pauses.count == 20_001
