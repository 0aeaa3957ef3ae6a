"""The bytes of real variables as Python data."""

from __future__ import annotations

import struct

import pytest

from agent.structures.decode import decode
from agent.structures.elf_file import ElfFile
from agent.structures.finding import examine, find
from agent.structures.layout import Array, Enumeration, Excluded, Member, Opaque, Record, Scalar
from tests.agent.structures.built import built, running


def read(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        return memory.read(size)


def test_a_variable_with_every_kind_of_member() -> None:
    with running(built("types.c", "-g")) as victim:
        place = find(victim.pid, "g_plain")
        value = decode(place.structure.layout, read(victim.pid, place.address, place.structure.size))
    assert value == {
        "flag": True,
        "tiny": -5,
        "raw": b"\x01\x02\x03\xff",
        "text": "abc",
        "price": 1234,
        "big": -1234567890123,
        "ratio": 0.5,
        "precise": 1.25,
        "pair": 1 + 2j,
        "side": "SELL",
        "color": "GREEN",
        "grid": [[1, 2, 3], [4, 5, 6]],
        "inner": [
            {"a": 7, "as_int": 8, "as_float": pytest.approx(0.0), "low": "x", "high": "y"},
            {"a": 9, "as_int": 0x40200000, "as_float": 2.5, "low": "p", "high": "q"},
        ],
        "low": -3,
        "high": 21,
        "wide": 1 << 39,
        "huge": -7,
    }


def test_a_table_without_its_locks() -> None:
    with running(built("sessions.c", "-g", "-DCOUNT=3")) as victim:
        victim.tell("w 1 5 2.5")
        place = find(victim.pid, "g_sessions", exclude=["g_sessions.entries.lock"])
        value = decode(place.structure.layout, read(victim.pid, place.address, place.structure.size))
    assert isinstance(value, dict)
    assert value["count"] == 1
    assert isinstance(value["entries"], list)
    entry = {"id": 5, "user": "user5", "state": "ACTIVE", "urgent": 1, "level": 5, "balance": 2.5, "lock": None}
    assert value["entries"][1] == entry


def test_an_object_with_a_base_class() -> None:
    with running(built("classes.cc", "-g")) as victim:
        place = find(victim.pid, "exchange::book")
        value = decode(place.structure.layout, read(victim.pid, place.address, place.structure.size))
    assert value == {
        "base": {"id": 7},
        "price": 2.5,
        "way": "sell",
        "levels": {"_M_elems": [1, 2, 3]},
        "hits": {"__atomic_base<int>": {"_M_i": 4}},
    }


def test_what_no_source_would_write() -> None:
    text = Array(Scalar("text", 1, "char"), 4)
    assert decode(text, b"ab\xff\0") == "ab\\xff"
    assert decode(Enumeration(1, True, (("A", -1),)), b"\xff") == "A"
    assert decode(Enumeration(1, True, (("A", -1),)), b"\xfe") == -2
    assert decode(Array(Scalar("boolean", 1), 2), b"\x00\x02") == [False, True]
    assert decode(Excluded(3), b"abc") is None
    assert decode(Opaque(3), b"abc") == b"abc"
    assert decode(Array(Scalar("text", 4, "char32_t"), 3), "hé".encode("utf-32-le") + bytes(4)) == "hé"
    assert decode(Scalar("float", 16, "_Float128"), bytes(16)) == bytes(16)
    assert decode(Scalar("float", 16, "long double"), struct.pack("<QH6x", 1 << 63, 0xFFFF)) == float("-inf")
    assert decode(Scalar("float", 16, "long double"), struct.pack("<QH6x", 1 << 63, 0x7FFE)) == float("inf")
    bits = Record(
        1, (Member("on", 0, Scalar("boolean", 1), (7, 1)), Member("e", 0, Enumeration(4, False, (("X", 3),)), (1, 2)))
    )
    assert decode(bits, b"\x86") == {"on": True, "e": "X"}
    with pytest.raises(ValueError, match="3 bytes for a layout of 4"):
        decode(text, b"abc")


def test_the_symbol_and_its_layout_have_one_size() -> None:
    with ElfFile(built("types.c", "-g")) as elf:
        assert examine(elf, "g_plain").size == elf.variable("g_plain").size
