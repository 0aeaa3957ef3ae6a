"""The control messages: every one comes back, none is without a place."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.transport.sample_status import sample_status
from transport import control
from transport.checkpoint import NOTHING, Version
from transport.context_schema import Context, Place, ThreadView
from transport.control import CONTROL, ControlMessage, Event, Reply, Request
from transport.errors import FrameError
from transport.structure_view import GetStructures, Structures, StructureView

VERSION = Version(1, 2, 3)
STATUS = sample_status()
MESSAGES: list[ControlMessage] = [
    control.Launch(1),
    control.Adopt(99, 123456, 1),
    control.SetLeash(200),
    control.Follow("10.0.0.1", 7000, "b", 1),
    control.GetReady(2, VERSION),
    control.Activate(2, VERSION),
    control.Activate(2, None),
    control.Switch(),
    control.Fence(),
    control.Resume(1),
    control.Release(),
    control.Terminate(1000),
    control.GetStatus(),
    control.GetContext(),
    GetStructures("sessions", 20),
    control.Quit(),
    control.Ok(),
    control.Refused("no", "do"),
    control.Held(VERSION),
    STATUS,
    Context(
        "redis",
        "redis@a",
        VERSION,
        "/usr/bin/redis-server",
        "/",
        77,
        (ThreadView(77, "redis", Place(4096, "/lib/libc.so.6", 16), 8192, 232, (), (12,), ()),),
        (),
        (),
        (),
        (),
        {"mappings": 3},
    ),
    Structures("redis", "redis@a", "mirror", (StructureView("sessions", "symbol g", 9, 0, 3.5, "", '{"a": 1}'),)),
    control.Hello("redis", "redis@a", 1, 99, 7000),
    control.Exited(9, VERSION, True, True, ""),
    control.Exited(139, None, True, False, "crashed"),
    control.Mirrored("redis@b", 1, VERSION),
    control.Activated(2, NOTHING, (("threads", 100), ("go", 20))),
    control.Settled(20, 3),
    control.Failed("no memory", "more"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back(message: ControlMessage) -> None:
    assert CONTROL.decode(*CONTROL.encode(message)) == message


def test_every_message_has_its_place() -> None:
    assert {type(message) for message in MESSAGES} == {*get_args(Request), *get_args(Reply), *get_args(Event)}
    for message in MESSAGES:
        kind, _ = CONTROL.encode(message)
        assert isinstance(message, Request if kind < 64 else Reply if kind < 128 else Event)


def test_a_token_is_a_number() -> None:
    kind, body = CONTROL.encode(control.Launch(1))
    with pytest.raises(FrameError, match=r"Launch\.token: int expected"):
        CONTROL.decode(kind, body[:-1] + b"\xc3")
