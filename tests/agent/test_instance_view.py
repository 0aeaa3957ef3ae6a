"""What a primary says of its mirrors."""

from __future__ import annotations

import pytest

from agent.instance_view import is_mirrored
from transport.checkpoint import NOTHING, Version
from transport.control import MirrorView
from transport.pubsub import State

HELD = Version(1, 8, 8)


def view(state: State, version: Version) -> MirrorView:
    return MirrorView("counter@b", 1, state, version, 0, 0, 0.0, None)


@pytest.mark.parametrize(
    ("state", "version", "mirrored"),
    [
        ("following", HELD, True),
        ("following", NOTHING, False),
        # It subscribes again after the agent was replaced: the new one has taken no checkpoint that it could get.
        ("waiting", HELD, False),
        ("waiting", NOTHING, False),
        ("full", NOTHING, False),
    ],
)
def test_a_primary_is_mirrored_when_a_mirror_follows_it(state: State, version: Version, mirrored: bool) -> None:
    assert is_mirrored([view("full", NOTHING), view(state, version)]) == mirrored


def test_without_mirrors_it_is_not() -> None:
    assert not is_mirrored([])
