"""Which schedules the step `harm` takes."""

from __future__ import annotations

import pytest

from tests.deploy.chaos import seeds


@pytest.mark.parametrize(
    ("text", "meant"), [("1", [1]), ("1-3", [1, 2, 3]), ("2,5-7", [2, 5, 6, 7]), ("4-4,1", [4, 1])]
)
def test_schedules_are_numbers_and_ranges(text: str, meant: list[int]) -> None:
    assert seeds(text) == meant
