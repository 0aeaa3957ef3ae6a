"""Parts of pages and records: golden bytes, round trips, and everything that must be refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import delta
from transport.checkpoint import PAGE_WORDS, PART_PAGES
from transport.delta import Codec, Mask, PagePartDecoder, PagePartEncoder, RecordsPart, Words, part_sum, records_parts
from transport.errors import CorruptUpdate

ENCODERS: dict[Codec, PagePartEncoder] = {"zstd": PagePartEncoder("zstd"), "lz4": PagePartEncoder("lz4")}
DECODER = PagePartDecoder()
EMPTY = np.zeros((0, PAGE_WORDS), np.uint64)


def _pages(*numbers: int) -> Words:
    return np.array(numbers, np.uint64)


def _example(seed: int, count: int, noisy: bool = False) -> tuple[Words, Words, Words, Mask]:
    """Return ascending pages, their base, new contents with a few changed words (noisy: all), and which are fresh."""
    rng = np.random.default_rng(seed)
    pages = np.cumsum(rng.integers(1, 1 << 30, count)).astype(np.uint64)
    base = rng.integers(0, 1 << 20, (count, PAGE_WORDS), dtype=np.uint64)
    new = base.copy()
    for _ in range(PAGE_WORDS if noisy else 3):
        new[np.arange(count), rng.integers(0, PAGE_WORDS, count)] = rng.integers(0, 2**64, count, dtype=np.uint64)
    if noisy:
        new = rng.integers(0, 2**64, (count, PAGE_WORDS), dtype=np.uint64)
    return pages, base, new, rng.integers(0, 4, count) == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 200), st.sampled_from(["zstd", "lz4"]), st.booleans())
def test_a_delta_leads_from_base_to_new(seed: int, count: int, codec: Codec, noisy: bool) -> None:
    pages, base, new, fresh = _example(seed, count, noisy)
    before = base.copy()
    part = DECODER.decode(ENCODERS[codec].encode(pages, base, new, fresh))
    assert (base == before).all()
    assert (part.pages == pages).all()
    assert (part.fresh == fresh).all()
    assert not part.absolute
    held, out = base.copy(), np.empty_like(new)
    held[fresh] = 77  # the receiver may hold anything of a fresh page
    part.resolve(held, out)
    assert (out == new).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 200), st.sampled_from(["zstd", "lz4"]), st.booleans())
def test_whole_pages_need_no_base(seed: int, count: int, codec: Codec, noisy: bool) -> None:
    pages, _, new, _ = _example(seed, count, noisy)
    part = DECODER.decode(ENCODERS[codec].encode(pages, None, new, None))
    out = np.empty_like(new)
    part.resolve(None, out)
    assert part.absolute
    assert part.fresh.all()
    assert (out == new).all()


def test_a_part_may_be_full_and_may_be_resolved_in_place() -> None:
    pages, base, new, fresh = _example(1, PART_PAGES, noisy=True)
    part = ENCODERS["zstd"].encode(pages, base, new, fresh)
    assert len(part) < 9 << 20
    held = base.copy()
    DECODER.decode(part).resolve(held, held)
    assert (held == new).all()


def test_golden_part_without_pages() -> None:
    part = ENCODERS["zstd"].encode(_pages(), EMPTY, EMPTY, np.zeros(0, np.bool_))
    assert part.hex() == (
        "4b475050 01 00 00 00 00000000 00000000 c294d3380580062d c294d3380580062d d0a30adda3948d30".replace(" ", "")
    )
    DECODER.decode(part).resolve(EMPTY.copy(), EMPTY.copy())


def test_golden_part_that_does_not_compress() -> None:
    rng = np.random.default_rng(7)
    base, new = (rng.integers(0, 2**64, (2, PAGE_WORDS), dtype=np.uint64) for _ in range(2))
    part = ENCODERS["zstd"].encode(_pages(0x7F0000001, 0x7F0000003), base, new, np.array([False, True]))
    base[1] = 0
    body = struct.pack("<QQQ", 0x7F0000001, 2, 0b10) + (base ^ new).tobytes()
    head = struct.pack("<4sBBBBIIQQ", b"KGPP", 1, 0, 0, 0, 2, len(body), _xxh(base.tobytes()), _xxh(new.tobytes()))
    assert part == head + struct.pack("<Q", _xxh(head + body)) + body
    assert part[:40].hex() == (
        "4b475050010000000200000018200000" + "31788a07c25d6356" + "9033aee4ea4ea8d7" + "e650508b0947edc8"
    )


def test_golden_records_part() -> None:
    part = RecordsPart({"fd/1": b"a"}, ("fd/2",)).encode()
    body = bytes.fromhex("92 81a4 66642f31 c401 61 91a4 66642f32".replace(" ", ""))
    head = struct.pack("<4sBBBBII", b"KGRP", 1, 0, 0, 0, len(body), len(body))
    assert part == head + struct.pack("<Q", _xxh(head + body)) + body
    assert part[:24].hex() == "4b475250010000001000000010000000" + "52ec5ba5bbda5b88"


def _xxh(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)


def test_the_sum_of_a_part_is_the_one_that_it_carries() -> None:
    pages = ENCODERS["zstd"].encode(_pages(), EMPTY, EMPTY, np.zeros(0, np.bool_))
    assert part_sum(pages) == int.from_bytes(pages[32:40], "little")
    records = RecordsPart({}, ()).encode()
    assert part_sum(records) == int.from_bytes(records[16:24], "little")
    with pytest.raises(CorruptUpdate):
        part_sum(b"KGPP")
    with pytest.raises(CorruptUpdate):
        delta.verify_part(records, delta.PAGE_MAGIC)


def test_no_changed_bit_goes_unseen() -> None:
    pages, base, new, fresh = _example(3, 2)
    whole = ENCODERS["zstd"].encode(pages, base, new, fresh)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        with pytest.raises(CorruptUpdate):
            DECODER.decode(bytes(damaged))
    for size in range(len(whole)):
        with pytest.raises(CorruptUpdate):
            DECODER.decode(whole[:size])


def test_another_base_is_refused() -> None:
    pages, base, new, _ = _example(4, 5)
    part = DECODER.decode(ENCODERS["zstd"].encode(pages, base, new, np.zeros(5, np.bool_)))
    base[2, 7] ^= np.uint64(1)
    with pytest.raises(CorruptUpdate, match="base of 5 pages"):
        part.resolve(base, np.empty_like(new))
    with pytest.raises(ValueError, match="needs its base"):
        part.resolve(None, np.empty_like(new))


def test_another_result_is_refused() -> None:
    pages, base, new, fresh = _example(4, 5)
    part = DECODER.decode(ENCODERS["zstd"].encode(pages, base, new, fresh))
    part.xor[0, 0] ^= np.uint64(1)
    with pytest.raises(CorruptUpdate, match="result of 5 pages"):
        part.resolve(base, np.empty_like(new))


def _forged(body: bytes, *, codec: int = 0, flags: int = 1, count: int = 1, version: int = 1, zero: int = 0) -> bytes:
    """Return a part with a right checksum and wrong contents."""
    head = struct.pack("<4sBBBBIIQQ", b"KGPP", version, codec, flags, zero, count, len(body), 0, 0)
    return head + struct.pack("<Q", _xxh(head + body)) + body


@pytest.mark.parametrize(
    "part",
    [
        _forged(b"x" * 4103),  # too short for one page
        _forged(b"x" * 4105),
        _forged(struct.pack("<Q", 1 << 52) + bytes(4096)),  # beyond any address
        _forged(struct.pack("<QQ", 5, 0) + bytes(8192), count=2),  # the same page twice
        _forged(struct.pack("<QQ", 5, 2**64 - 1) + bytes(8192), count=2),  # descends
        _forged(b"", count=PART_PAGES + 1),
        _forged(bytes(4104), codec=3),
        _forged(bytes(4104), version=2),
        _forged(bytes(4104), flags=2),
        _forged(bytes(4104), zero=1),
        _forged(b"no zstd", codec=1),
        _forged(zstandard.compress(bytes(1 << 24)), codec=1),  # much larger than it says
        _forged(zstandard.compress(bytes(100)), codec=1),
        _forged(zstandard.compress(bytes(4104))[:-3], codec=1),
        _forged(b"\xff" * 64, codec=2),
        _forged(b"", codec=2),
    ],
)
def test_forged_parts_are_refused(part: bytes) -> None:
    with pytest.raises(CorruptUpdate):
        DECODER.decode(part)


@pytest.mark.parametrize(
    ("pages", "base", "fresh"),
    [
        (_pages(2, 1), np.zeros((2, PAGE_WORDS), np.uint64), np.zeros(2, np.bool_)),
        (_pages(1, 1), np.zeros((2, PAGE_WORDS), np.uint64), np.zeros(2, np.bool_)),
        (_pages(1, 1 << 52), np.zeros((2, PAGE_WORDS), np.uint64), np.zeros(2, np.bool_)),
        (_pages(1, 2), np.zeros((3, PAGE_WORDS), np.uint64), np.zeros(2, np.bool_)),
        (_pages(1, 2), np.zeros((2, PAGE_WORDS), np.uint64), np.zeros(3, np.bool_)),
        (_pages(1, 2), np.zeros((2, PAGE_WORDS), np.uint64), None),
        (_pages(*range(PART_PAGES + 1)), None, None),
    ],
)
def test_a_caller_s_mistake_is_no_corruption(pages: Words, base: Words | None, fresh: Mask | None) -> None:
    with pytest.raises(ValueError, match="part"):
        ENCODERS["zstd"].encode(pages, base, np.zeros((2, PAGE_WORDS), np.uint64), fresh)


def test_an_unknown_codec_is_a_caller_s_mistake() -> None:
    with pytest.raises(ValueError, match="brotli"):
        PagePartEncoder("brotli")  # type: ignore[arg-type]


records = st.dictionaries(st.text(max_size=8), st.binary(max_size=2000), max_size=8)


@given(records, st.lists(st.text(max_size=8), max_size=5, unique=True), st.booleans())
def test_records_come_back(changed: dict[str, bytes], removed: list[str], complete: bool) -> None:
    part = RecordsPart.decode(RecordsPart(changed, tuple(removed), complete).encode())
    assert part == RecordsPart(changed, tuple(sorted(removed)), complete)


def test_equal_records_have_equal_bytes() -> None:
    one, other = RecordsPart({"a": b"1", "b": b"2"}, ("x", "y")), RecordsPart({"b": b"2", "a": b"1"}, ("y", "x"))
    assert one.encode() == other.encode()


def test_records_are_applied_or_replace_all() -> None:
    assert RecordsPart({"a": b"2"}, ("b",)).apply({"a": b"1", "b": b"1", "c": b"1"}) == {"a": b"2", "c": b"1"}
    assert RecordsPart({"a": b"2"}, (), complete=True).apply({"b": b"1"}) == {"a": b"2"}


def test_no_changed_bit_of_records_goes_unseen() -> None:
    whole = RecordsPart({"fd/1": b"a" * 99}, ("fd/2",)).encode()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        with pytest.raises(CorruptUpdate):
            RecordsPart.decode(bytes(damaged))


def _forged_records(body: bytes, *, size: int | None = None, codec: int = 0, flags: int = 0) -> bytes:
    size = len(body) if size is None else size
    head = struct.pack("<4sBBBBII", b"KGRP", 1, codec, flags, 0, size, len(body))
    return head + struct.pack("<Q", _xxh(head + body)) + body


@pytest.mark.parametrize(
    "part",
    [
        _forged_records(b"\xc0"),
        _forged_records(b"\x92\x80"),
        _forged_records(b"\x92\x90\x90"),
        _forged_records(b"\x92\x81\xa1a\xa1b\x90"),  # text instead of bytes
        _forged_records(b"\x92\x81\xc4\x01a\xc4\x01b\x90"),  # bytes as a name
        _forged_records(b"\x92\x80\x91\x01"),
        _forged_records(b"\x92\x80\x90\x00"),
        _forged_records(zstandard.compress(bytes(1 << 20)), size=10, codec=1),
        _forged_records(b"junk", codec=1),
        _forged_records(b"\x92\x80\x90", codec=2),
        _forged_records(b"\x92\x80\x90", flags=2),
        _forged_records(b"\x92\x80\x90", size=delta.RECORDS_BYTES_MAX + 1),
    ],
)
def test_forged_records_are_refused(part: bytes) -> None:
    with pytest.raises(CorruptUpdate):
        RecordsPart.decode(part)


def test_many_records_are_split_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "RECORDS_BYTES_MAX", 1000)
    changed = {f"tcp/{number}": bytes([number]) * 100 for number in range(50)}
    for complete in (False, True):
        old = {"gone": b"", "tcp/3": b"old"}
        parts = records_parts(changed, () if complete else ("gone",), complete)
        assert len(parts) > 5
        for part in parts:
            old = RecordsPart.decode(part.encode()).apply(old)
        assert old == changed
    with pytest.raises(ValueError, match="record 'x' has 1000 bytes"):
        records_parts({"x": bytes(1000)}, ())


def test_no_records_are_one_part() -> None:
    assert records_parts({}, ()) == [RecordsPart({}, ())]
