"""redis' protocol, the few words of it that the client speaks."""

from __future__ import annotations

import pytest

from kagemusha.demo.resp import NOTHING, command, number_reply, parse_number
from transport.errors import FrameError


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert command(b"SET", b"key", b"") == b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n"


@pytest.mark.parametrize("number", [0, 1, 9, 10, 123456])
def test_a_reply_in_pieces_is_incomplete_until_its_last_byte(number: int) -> None:
    reply = number_reply(number)
    assert all(parse_number(reply[:length]) is None for length in range(len(reply)))
    assert parse_number(reply) == number


def test_a_missing_key_is_zero() -> None:
    assert parse_number(NOTHING) == 0


@pytest.mark.parametrize("reply", [b"-LOADING Redis is loading\r\n", b"$3\r\nabc\r\n", b"$2\r\n123\r\n", b"+OK\r\n"])
def test_anything_else_is_an_error_that_shows_it(reply: bytes) -> None:
    with pytest.raises(FrameError, match="redis answers"):
        parse_number(reply)
