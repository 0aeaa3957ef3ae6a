"""Messages and attributes come out as they were put in; what is cut short is nothing."""

from __future__ import annotations

import struct

import pytest

from transport.netlink_format import ERROR, HEADER, NESTED, attribute, attributes, errno_of, message, messages


def test_messages_one_behind_the_other() -> None:
    datagram = message(20, 4, b"first, five words") + bytes(3) + message(21, 0, b"")
    assert list(messages(datagram)) == [(20, b"first, five words"), (21, b"")]
    assert HEADER.unpack_from(datagram)[2] == 0x5


def test_attributes_within_attributes() -> None:
    inner = attribute(1, b"a") + attribute(2, b"bcde")
    [(kind, content), last] = attributes(attribute(NESTED | 3, inner) + attribute(4, b""))
    assert (kind, last) == (3, (4, b""))
    assert list(attributes(content)) == [(1, b"a"), (2, b"bcde")]


@pytest.mark.parametrize("length", [0, 1, 3, 15])
def test_a_length_that_can_not_be_ends_it(length: int) -> None:
    assert list(messages(struct.pack("=IHHII", length, 20, 0, 0, 0) + message(21, 0, b"x"))) == []
    if length < 4:
        assert list(attributes(struct.pack("=HH", length, 1) + attribute(2, b"x"))) == []


def test_an_errno_is_negative_on_the_wire() -> None:
    [(kind, body)] = messages(message(ERROR, 0, struct.pack("=i", -17) + bytes(16)))
    assert (kind, errno_of(body)) == (2, 17)
