"""Commands in words."""

from __future__ import annotations

import pytest

from cluster.admin.history import event_of
from cluster.registry.commands import (
    Command,
    CreateProgram,
    DeleteProgram,
    Fenced,
    Ok,
    Pause,
    Promote,
    Rejected,
    Resume,
    SetInstance,
    SetInSync,
    SetNode,
    ShutDown,
    Started,
    TakeOffice,
    Unfence,
)
from cluster.registry.values import MirrorMember
from transport.checkpoint import Version

COMMANDS: list[tuple[Command, Ok, str]] = [
    (TakeOffice("r", "b", 4), Ok(4), "node b leads in term 4"),
    (CreateProgram("r", "redis", "/x", "d" * 64, ("a", "b")), Ok("redis"), "program redis is to run on a, b"),
    (DeleteProgram("r", "redis"), Ok("redis"), "program redis is forgotten"),
    (
        SetInstance("r", "redis", "redis@b", "mirror", "failed", 3, "no memory", 1),
        Ok("redis@b"),
        "mirror redis@b is failed: no memory",
    ),
    (
        Fenced("r", "redis", 1, "a", "f", True, 1),
        Ok("f"),
        "primary redis@a is fenced: it has no effect any more",
    ),
    (Unfence("r", "redis", 1, "f", 1), Ok("f"), "the primary of redis serves on"),
    (
        Promote("r", "redis", 1, "redis@b", Version(1, 77, 5), "f", "node a is lost", 1),
        Ok(2),
        "redis@b goes on from checkpoint 77 under token 2: node a is lost",
    ),
    (
        Promote(
            "r", "redis", 1, "redis@b", Version(1, 77, 5), "f", "node a is lost", 1, because="it is the only mirror"
        ),
        Ok(2),
        "redis@b goes on from checkpoint 77 under token 2: node a is lost; chosen because it is the only mirror",
    ),
    (Started("r", "redis", 0, "redis@a", "", "first", 1), Ok(1), "redis@a starts anew under token 1: first"),
    (SetInSync("r", "redis", 1, (MirrorMember("redis@b", 3),), 1), Ok("redis"), "redis is in sync with redis@b"),
    (Pause("r", "redis"), Ok("redis"), "no failover of redis until it is resumed"),
    (Resume("r", "redis"), Ok("redis"), "failover of redis again"),
    (
        ShutDown("r", "redis"),
        Ok("redis"),
        "redis is ended for a shutdown of the cluster; startup starts it again",
    ),
    (
        SetNode("r", "b", "10.0.0.2:7400", "10.0.0.2:7402"),
        Ok("b"),
        "node b is at 10.0.0.2:7400, its API at 10.0.0.2:7402",
    ),
]


@pytest.mark.parametrize(("command", "result", "text"), COMMANDS, ids=lambda value: type(value).__name__)
def test_each_in_words(command: Command, result: Ok, text: str) -> None:
    event = event_of(9, "2026-01-01T00:00:00Z", command, result)
    assert event is not None
    assert (event.index, event.text) == (9, text)


def test_what_was_rejected_did_not_happen() -> None:
    assert event_of(9, "2026-01-01T00:00:00Z", Pause("r", "redis"), Rejected("unknown", "x")) is None
