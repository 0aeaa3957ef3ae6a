"""The few words of redis' protocol (RESP2) that the demo's client speaks (pure). Source: redis.io, "Redis serialization
protocol specification"."""

from __future__ import annotations

from transport.errors import FrameError

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
NOTHING = b"$-1\r\n"


def command(*words: bytes) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


def bulk(text: bytes) -> bytes:
    """A bulk string."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def number_reply(number: int) -> bytes:
    """The bulk string of a number; what a missing key gives for 0."""
    return bulk(b"%d" % number) if number else NOTHING


def parse_number(reply: bytes) -> int | None:
    """The number in a bulk string, 0 for a missing key; None while the reply is incomplete.

    FrameError for an error reply or anything else that is no number.
    """
    if reply and not reply.startswith(b"$"):
        raise FrameError(f"redis answers {reply[:80]!r}")
    if reply == NOTHING:
        return 0
    head, _, rest = reply.partition(b"\r\n")
    if not rest.endswith(b"\r\n"):
        return None
    length, number = int(head[1:]), rest[:-2]
    if len(number) != length or not number.isdigit():
        raise FrameError(f"redis answers {reply[:80]!r}, which is no number")
    return int(number)
