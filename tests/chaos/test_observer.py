"""When a cluster counts as whole again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.observer import what_is_missing, who_is_apart


def whole() -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Three nodes, a primary, two mirrors that follow it."""
    nodes = [{"node": name, "alive": True, "leader": name == "b"} for name in "abc"]
    instances = [
        {"instance": f"redis@{name}", "status": "mirrored", "role": "primary" if name == "a" else "mirror"}
        for name in "abc"
    ]
    mirrors = [{"instance": f"redis@{name}", "state": "following"} for name in "bc"]
    return nodes, {"fenced": False, "token": 3, "instances": instances}, {"token": 3, "mirrors": mirrors}


def test_nothing_is_missing() -> None:
    assert what_is_missing(*whole()) == ""


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        (0, lambda nodes: nodes[2].update(alive=False), "node c is not there"),
        (0, lambda nodes: nodes[1].update(leader=False), "nobody leads"),
        (1, lambda program: program.update(fenced=True), "nobody serves"),
        (1, lambda program: program.update(token=4), "token 3, agreed is 4"),
        (1, lambda program: program["instances"][1].update(status="syncing"), "not mirrored: redis@b"),
        (2, lambda status: status["mirrors"][0].update(state="syncing"), "does not follow yet: redis@b"),
    ],
)
def test_what_is_missing_is_said(part: int, change: Any, words: str) -> None:
    parts = whole()
    change(parts[part])
    assert words in what_is_missing(*parts)


def test_a_member_that_takes_no_part_is_missing() -> None:
    healths = [{"node": name, "leader": "b", "term": 9} for name in "abc"]
    assert who_is_apart(healths) == ""
    assert "node c follows b in term 4" in who_is_apart([*healths[:2], {**healths[2], "term": 4}])
    assert "node c follows None" in who_is_apart([*healths[:2], {**healths[2], "leader": None}])
    assert who_is_apart([{**one, "leader": None} for one in healths]), "nobody leads"
