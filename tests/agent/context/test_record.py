"""Records as bytes: equal values give equal bytes, and what is no record is refused with its name."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack
import pytest

from agent.context.record import pack, unpack
from agent.errors import RestoreError


@dataclass(frozen=True, slots=True)
class Sample:
    number: int
    flag: bool
    path: str
    data: bytes
    pairs: tuple[tuple[int, str], ...]
    maybe: int | None


GOOD = Sample(1, True, "/tmp/\udcff", b"\x00\xff", ((1, "a"), (2, "b")), None)


def test_a_record_comes_back_as_it_was() -> None:
    assert unpack(Sample, pack(GOOD)) == GOOD
    assert pack(unpack(Sample, pack(GOOD))) == pack(GOOD)


def test_a_large_record_comes_back_too() -> None:
    large = Sample(1, False, "x", bytes(100_000), (), 5)
    assert unpack(Sample, pack(large)) == large


@pytest.mark.parametrize(
    "values",
    [
        [1, True, "p", b"", []],
        [1, True, "p", b"", [], None, 1],
        [True, True, "p", b"", [], None],
        [1, 1, "p", b"", [], None],
        [1, True, b"p", b"", [], None],
        [1, True, "p", "", [], None],
        [1, True, "p", b"", [[1, 2]], None],
        [1, True, "p", b"", [[1, "a", 3]], None],
        [1, True, "p", b"", 5, None],
        [1, True, "p", b"", [], "x"],
        {"number": 1},
        7,
    ],
)
def test_anything_else_is_refused(values: object) -> None:
    with pytest.raises(RestoreError, match="ofd/sample:1"):
        unpack(Sample, msgpack.packb(values), "ofd/sample:1")


@pytest.mark.parametrize("data", [b"", b"\xc1", pack(GOOD)[:-1], pack(GOOD) + b"\x00"])
def test_bytes_that_are_no_msgpack_are_refused(data: bytes) -> None:
    with pytest.raises(RestoreError, match="Sample"):
        unpack(Sample, data)
