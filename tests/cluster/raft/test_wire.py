"""The typed messages: what pysyncobj sends arrives as it was, and nothing else gets through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from cluster.raft.greeting import elsewhere, objection
from cluster.raft.wire import (
    COMMAND_BYTES_MAX,
    WIRE,
    Alive,
    Appended,
    AppendEntries,
    Hello,
    InstallSnapshot,
    NotProposed,
    PeerMessage,
    Propose,
    Proposed,
    Refused,
    RequestVote,
    Vote,
    from_pysyncobj,
    to_pysyncobj,
)
from transport.errors import FrameError

MESSAGES: list[PeerMessage] = [
    Hello(1, "test", 3, "a", "0f", ("a", "b", "c")),
    Refused("two daemons"),
    Alive(),
    RequestVote(4, 10, 3),
    Vote(4, 0.25),
    AppendEntries(4, 99, 9, 9, 3, ((3, b"\x00one"), (4, b"\x01"))),
    InstallSnapshot(4, 100, b"piece", True, False),
    Appended(4, 99, 12, True, False),
    Propose(1 << 40, b"command"),
    Proposed(1 << 40, 12, 4),
    NotProposed(1 << 40, 2),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message: PeerMessage) -> None:
    assert WIRE.decode(*WIRE.encode(message)) == message


STOCK: list[tuple[dict[str, Any], PeerMessage]] = [
    ({"type": "request_vote", "term": 4, "last_log_index": 10, "last_log_term": 3}, RequestVote(4, 10, 3)),
    ({"type": "response_vote", "term": 4}, Vote(4, 0.5)),
    (
        {
            "type": "append_entries",
            "term": 4,
            "commit_index": 9,
            "entries": [(b"\x00x", 10, 4)],
            "prevLogIdx": 9,
            "prevLogTerm": 3,
        },
        AppendEntries(4, 7, 9, 9, 3, ((4, b"\x00x"),)),
    ),
    (
        {"type": "append_entries", "term": 4, "commit_index": 9, "serialized": (b"p", True, False)},
        InstallSnapshot(4, 7, b"p", True, False),
    ),
    (
        {"type": "append_entries", "term": 4, "commit_index": 9, "serialized": None},
        InstallSnapshot(4, 7, b"", False, False),
    ),
    ({"type": "apply_command", "command": b"\x00c", "request_id": 5}, Propose(5, b"c")),
    ({"type": "apply_command_response", "request_id": 5, "error": 2}, NotProposed(5, 2)),
    ({"type": "apply_command_response", "request_id": 5, "log_idx": 10, "log_term": 4}, Proposed(5, 10, 4)),
]


@pytest.mark.parametrize(("stock", "typed"), STOCK, ids=lambda value: type(value).__name__)
def test_pysyncobj_is_translated(stock: dict[str, Any], typed: PeerMessage) -> None:
    assert from_pysyncobj(stock, 7, 0.5) == typed
    if isinstance(typed, RequestVote | Vote | Propose | Proposed | NotProposed):
        assert to_pysyncobj(typed) == stock


@pytest.mark.parametrize(
    "stock",
    [
        {"type": "timeout_now", "term": 4},
        {"type": "apply_command", "command": b"\x02membership", "request_id": 5},
        {"type": "append_entries", "transmission": "start", "data": b"", "term": 4, "commit_index": 1},
    ],
    ids=["transfer", "membership", "piece of an entry"],
)
def test_what_has_no_typed_form_is_not_sent(stock: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no typed form"):
        from_pysyncobj(stock, 0, 0.0)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (RequestVote(4, 10, 3), {"term": -1}),
        (RequestVote(4, 10, 3), {"term": 1 << 63}),
        (Vote(4, 0.5), {"heard_ago_s": -1.0}),
        (Vote(4, 0.5), {"heard_ago_s": float("nan")}),
        (AppendEntries(4, 1, 1, 1, 0, ()), {"entries": [[5, b"\x00"]]}),
        (AppendEntries(4, 1, 1, 1, 2, ()), {"entries": [[1, b"\x00"]]}),
        (AppendEntries(4, 1, 1, 1, 0, ()), {"entries": [[4, b"\x02membership"]]}),
        (AppendEntries(4, 1, 1, 1, 0, ()), {"entries": [[4, b""]]}),
        (AppendEntries(4, 1, 1, 1, 0, ()), {"entries": [[4, bytes(COMMAND_BYTES_MAX + 2)]]}),
        (Propose(1, b""), {"command": bytes(COMMAND_BYTES_MAX + 1)}),
        (Appended(1, 1, 1, True, False), {"success": 1}),
        (Alive(), {"more": 1}),
    ],
)
def test_a_message_beyond_its_bounds_is_refused(message: PeerMessage, change: dict[str, object]) -> None:
    kind, body = WIRE.encode(message)
    changed = msgpack.packb({**msgpack.unpackb(body), **change})
    with pytest.raises(FrameError):
        WIRE.decode(kind, changed)


OURS = Hello(1, "test", 3, "a", "0f", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("theirs", "peer", "line"),
    [
        (Hello(1, "test", 3, "b", "1f", ("a", "b", "c")), "b", ""),
        (Hello(2, "test", 3, "b", "1f", ("a", "b", "c")), "b", "node b speaks raft format 2, node a format 1"),
        (Hello(1, "prod", 3, "b", "1f", ("a", "b", "c")), "b", "node b is of cluster 'prod', node a of 'test'"),
        (Hello(1, "test", 4, "b", "1f", ("a", "b", "c")), "b", "node b has configuration epoch 4, node a has 3"),
        (
            Hello(1, "test", 3, "c", "1f", ("a", "b", "c")),
            "b",
            "a daemon with the certificate of node b calls itself c",
        ),
        (Hello(1, "test", 3, "a", "1f", ("a", "b", "c")), "a", "two daemons run as node a"),
        (Hello(1, "test", 3, "d", "1f", ("a", "b", "c")), "d", "node d is no member of cluster 'test'"),
        (
            Hello(1, "test", 3, "b", "1f", ("a", "b")),
            "b",
            "node b has the members a, b, node a has a, b, c, in the same epoch 3",
        ),
    ],
)
def test_a_greeting_is_accepted_or_refused_in_one_line(theirs: Hello, peer: str, line: str) -> None:
    assert objection(OURS, theirs, peer) == line


def test_who_has_the_members_in_other_places_is_refused() -> None:
    theirs = Hello(1, "test", 3, "b", "1f", ("a", "b", "c"), "there")
    assert elsewhere(OURS, theirs, "b") == "[[nodes]] differ between node b and node a, in the same epoch 3"
    assert elsewhere(replace(OURS, layout="there"), theirs, "b") == ""
