"""Frames: golden bytes, any cutting of the stream, and everything that must be refused and counted."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from transport.counters import Counters, Reason
from transport.frame import BODY_BYTES_MAX, HEADER_BYTES, Frame, FrameDecoder, RefusedFrame, encode_frame

LIMITS = {1: 100, 9: 1 << 20}


def _bytes(kind: int, token: int, sequence: int, *body: bytes) -> bytes:
    return b"".join(encode_frame(kind, token, sequence, *body))


def test_golden_frame() -> None:
    frame = _bytes(9, 7, 9, bytes.fromhex("81a6726561736f6ea3656e64"))
    assert frame.hex() == (
        "4b474d46" + "01" + "09" + "0000" + "0c000000" + "0700000000000000" + "0900000000000000"
        "6b9e8bb6795ef3e5" + "81a6726561736f6ea3656e64"
    )
    head = struct.pack("<4sBBHIQQ", b"KGMF", 1, 9, 0, 12, 7, 9)
    assert frame[:28] == head
    assert frame[28:36] == struct.pack("<Q", xxhash.xxh3_64_intdigest(head + frame[36:]))
    assert HEADER_BYTES == 36


@given(
    st.lists(st.tuples(st.sampled_from([1, 9]), st.integers(0, 2**64 - 1), st.binary(max_size=100)), max_size=5),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_frames_come_out_however_the_stream_is_cut(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    decoder = FrameDecoder(LIMITS, Counters())
    stream = b"".join(_bytes(kind, token, at, body) for at, (kind, token, body) in enumerate(frames))
    out: list[Frame] = []
    turn = 0
    while stream:
        size = cuts[turn % len(cuts)]
        out += decoder.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert out == [Frame(kind, token, at, body) for at, (kind, token, body) in enumerate(frames)]
    assert decoder.pending_bytes == 0


def test_a_body_in_pieces_is_not_copied() -> None:
    body = bytearray(1000)
    buffers = encode_frame(9, 0, 0, b"abc", body)
    assert buffers[2] is body
    assert FrameDecoder(LIMITS, Counters()).feed(b"".join(buffers))[0].body == b"abc" + body


def _with(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda frame: frame[:offset] + value + frame[offset + len(value) :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_with(0, b"HTTP"), Reason.MALFORMED),
        (_with(4, b"\x02"), Reason.MALFORMED),
        (_with(6, b"\x01"), Reason.MALFORMED),
        (_with(5, b"\x02"), Reason.UNKNOWN_KIND),
        (_with(5, b"\x00"), Reason.UNKNOWN_KIND),
        (_with(8, struct.pack("<I", 101)), Reason.OVERSIZED),
        (_with(8, b"\xff\xff\xff\xff"), Reason.OVERSIZED),
        (_with(12, b"\x06"), Reason.CORRUPT),
        (_with(20, b"\x06"), Reason.CORRUPT),
        (_with(28, b"\x06"), Reason.CORRUPT),
        (_with(36, b"\x06"), Reason.CORRUPT),
    ],
)
def test_what_is_no_frame_is_refused_counted_and_final(damage: Callable[[bytes], bytes], reason: Reason) -> None:
    counters = Counters()
    decoder = FrameDecoder(LIMITS, counters)
    good = _bytes(1, 7, 1, b"body")
    assert len(decoder.feed(good)) == 1
    with pytest.raises(RefusedFrame) as error:
        decoder.feed(damage(good))
    assert error.value.reason == reason
    assert counters.by_reason()[reason] == counters.total == 1
    with pytest.raises(RefusedFrame):
        decoder.feed(good)
    assert counters.total == 1


def test_a_body_above_its_limit_is_refused_before_it_comes() -> None:
    header = _bytes(9, 0, 1, bytes(1 << 20))[:HEADER_BYTES]
    FrameDecoder(LIMITS, Counters()).feed(header)
    with pytest.raises(RefusedFrame, match="at most 100"):
        FrameDecoder({9: 100}, Counters()).feed(header)


def test_a_body_above_every_limit_is_a_caller_s_mistake() -> None:
    with pytest.raises(ValueError, match="a frame holds"):
        encode_frame(1, 0, 1, bytes(BODY_BYTES_MAX), b"x")


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for(noise: bytes) -> None:
    counters = Counters()
    decoder = FrameDecoder(LIMITS, counters)
    try:
        assert decoder.feed(noise) == []
        assert counters.total == 0
    except RefusedFrame:
        assert counters.total == 1
