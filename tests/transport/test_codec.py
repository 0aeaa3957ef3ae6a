"""Strict messages: exactly the declared fields and types, or refused with the place named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.codec import Form, MessageSet
from transport.errors import FrameError


@dataclass(frozen=True)
class Inner:
    number: int


@dataclass(frozen=True)
class Every:
    yes: bool
    count: int
    share: float
    name: str
    data: bytes
    choice: Literal["a", "b"]
    maybe: Inner | None
    many: tuple[Inner, ...]
    pair: tuple[str, int]
    table: dict[str, float]
    extra: int = 7


@dataclass(frozen=True)
class Raw:
    part: bytes


MESSAGES: MessageSet[Every | Raw] = MessageSet({1: Form(Every, 2000), 2: Form(Raw, 100, raw=True)})

plain: dict[str, Any] = {
    "yes": True,
    "count": -3,
    "share": 0.5,
    "name": "n",
    "data": b"d",
    "choice": "a",
    "maybe": {"number": 1},
    "many": [{"number": 2}, {"number": 3}],
    "pair": ["p", 4],
    "table": {"t": 1.5},
}
message = Every(True, -3, 0.5, "n", b"d", "a", Inner(1), (Inner(2), Inner(3)), ("p", 4), {"t": 1.5})


def _decode(value: object) -> Every | Raw:
    return MESSAGES.decode(1, msgpack.packb(value))


def test_a_message_comes_back() -> None:
    assert MESSAGES.decode(*MESSAGES.encode(message)) == message
    assert _decode(plain) == message
    assert MESSAGES.decode(*MESSAGES.encode(Raw(b"part"))) == Raw(b"part")
    assert MESSAGES.encode(Raw(b"part")) == (2, b"part")


def test_a_whole_number_may_stand_for_a_float() -> None:
    decoded = _decode(plain | {"share": 2})
    assert isinstance(decoded, Every)
    assert isinstance(decoded.share, float)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"yes": 1}, r"Every\.yes: bool expected, not int"),
        ({"count": True}, r"Every\.count"),
        ({"count": 1.0}, r"Every\.count"),
        ({"share": "1"}, r"Every\.share"),
        ({"name": b"n"}, r"Every\.name: str expected, not bytes"),
        ({"data": "d"}, r"Every\.data"),
        ({"choice": "c"}, r"Every\.choice: one of 'a', 'b'"),
        ({"maybe": 1}, r"Every\.maybe"),
        ({"maybe": {}}, r"Every\.maybe: field 'number' is missing"),
        ({"many": {"number": 1}}, r"Every\.many: a list"),
        ({"many": [{"number": None}]}, r"Every\.many\.number"),
        ({"pair": ["p"]}, r"Every\.pair: a list of 2"),
        ({"pair": ["p", "q"]}, r"Every\.pair"),
        ({"table": {"t": "x"}}, r"Every\.table\['t'\]"),
        ({"table": []}, r"Every\.table"),
        ({"other": 1}, r"Every: unknown field 'other'"),
        ({"__class__": "os.system"}, r"unknown field"),
    ],
)
def test_anything_else_is_refused_with_its_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(FrameError, match=place):
        _decode(plain | change)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x80\x80",
        b"\xc7\x00\x05",  # an extension type
        b"\xd4\x05\x00",
        b"\x82\xa1a\x01\xa1a\x02",  # a key twice
        b"\x81\x01\x02",  # a number as a key
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",  # a list of 4 billion
        b"\xdb\xff\xff\xff\xff",
        b"\x80",
        b"\x90",
        b"\xc0",
    ],
)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        MESSAGES.decode(1, body)


@given(st.binary(max_size=64))
def test_noise_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        MESSAGES.decode(1, body)


def test_unknown_kinds_and_strangers_are_refused() -> None:
    with pytest.raises(FrameError, match="kind 3"):
        MESSAGES.decode(3, b"\x80")
    with pytest.raises(ValueError, match="Inner is no message"):
        MESSAGES.encode(Inner(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 100"):
        MESSAGES.encode(Raw(bytes(101)))


def test_a_field_that_can_t_travel_is_refused_when_it_is_declared() -> None:
    @dataclass(frozen=True)
    class Bad:
        thing: object

    with pytest.raises(TypeError, match="can't be a field"):
        MessageSet({1: Form(Bad, 10)})
