from __future__ import annotations

from dataclasses import fields

import msgpack
import pytest

from cluster.registry import commands
from cluster.registry.commands import (
    COMMAND_BYTES_MAX,
    OPCODES,
    CreateProgram,
    DeleteProgram,
    Ok,
    Promote,
    Rejected,
    SetInSync,
    decode_command,
    decode_result,
    encode,
)
from cluster.registry.values import MirrorMember, Policy
from transport.checkpoint import Version
from transport.errors import FrameError

PROMOTE = Promote("r1", "redis", 3, "redis@n2", Version(3, 77, 12345), "redis-3-1-1", "node n1 is lost", 9, at_s=1000)


@pytest.mark.parametrize(
    "command",
    [
        PROMOTE,
        CreateProgram("r2", "redis", "/etc/redis.toml", "ab" * 32, ("n1", "n2"), Policy("sync", takeovers_max=1)),
        SetInSync("r3", "redis", 4, (MirrorMember("redis@n1", 2),), 9),
    ],
)
def test_a_command_comes_back_as_it_was(command: commands.Command) -> None:
    assert decode_command(encode(command)) == command


@pytest.mark.parametrize("result", [Ok(4), Ok("redis"), Rejected("stale", "the token is 5", "ask again")])
def test_a_result_comes_back_as_it_was(result: commands.Result) -> None:
    assert decode_result(encode(result)) == result


def test_the_opcode_travels_as_text() -> None:
    form, opcode, _ = msgpack.unpackb(encode(PROMOTE))
    assert (form, opcode) == (1, "promote")


def test_opcodes_never_change() -> None:
    """They stand in journals: this list may only grow."""
    assert list(OPCODES) == [
        "take-office",
        "create-program",
        "delete-program",
        "set-instance",
        "fenced",
        "unfence",
        "promote",
        "started",
        "set-in-sync",
        "pause",
        "resume",
        "set-node",
        "ok",
        "rejected",
        "extend",
        "end-extension",
        "drain",
        "shut-down",
    ]


def test_every_command_has_a_request_id() -> None:
    for type_ in OPCODES.values():
        assert type_ in (Ok, Rejected) or fields(type_)[0].name == "request_id"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([2, "promote", b""]),
        msgpack.packb([1, "promot", b""]),
        msgpack.packb([1, "promote", b"", b""]),
        msgpack.packb([1, "promote", "text"]),
        msgpack.packb({"promote": 1}),
        msgpack.packb([1, "delete-program", msgpack.packb({"request_id": "r", "program": 7})]),
        msgpack.packb([1, "delete-program", msgpack.packb({"request_id": "r", "program": "p", "more": 1})]),
        encode(Ok(1)),
        b"\x91" * 40_000,
    ],
)
def test_what_is_no_command_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_command(data)


def test_a_command_is_no_result() -> None:
    with pytest.raises(FrameError, match="result expected"):
        decode_result(encode(DeleteProgram("r", "redis")))


def test_a_command_has_a_limit() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode(DeleteProgram("r", "x" * COMMAND_BYTES_MAX))
