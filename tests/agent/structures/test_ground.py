"""What memory lies at an address: the same only if it is the same file, or none, at the same place."""

from __future__ import annotations

import pytest

from agent.context.layout import parse_line
from agent.structures.ground import ground, ground_by_text

MAPS = b"""\
00400000-00401000 r--p 00000000 fe:00 42 /opt/sessions
00402000-00404000 rw-p 00002000 fe:00 42 /opt/sessions
00404000-00408000 rw-p 00000000 00:00 0
00500000-00501000 rw-s 00000000 00:1a 7 /dev/shm/book
"""


@pytest.mark.parametrize(
    ("start", "end"), [(0x402800, 0x406000), (0x402000, 0x404000), (0x500000, 0x500040), (0x407000, 0x501000)]
)
def test_it_is_told_by_the_text_as_by_the_areas(start: int, end: int) -> None:
    lines = MAPS.splitlines()
    assert ground_by_text(lines, start, end) == ground(map(parse_line, lines), start, end)


def test_what_was_only_protected_in_parts_is_the_same() -> None:
    parts = MAPS.replace(
        b"00402000-00404000 rw-p 00002000",
        b"00402000-00403000 rw-p 00002000 fe:00 42 /opt/sessions\n00403000-00404000 r--p 00003000",
    )
    assert ground_by_text(parts.splitlines(), 0x402000, 0x406000) == ground_by_text(
        MAPS.splitlines(), 0x402000, 0x406000
    )


@pytest.mark.parametrize(
    ("old", "new"), [(b"00:1a 7", b"00:1a 8"), (b"rw-s 00000000", b"rw-s 00001000"), (b"rw-s", b"rw-p")]
)
def test_another_file_or_another_part_of_it_is_not(old: bytes, new: bytes) -> None:
    there = ground_by_text(MAPS.splitlines(), 0x500000, 0x500040)
    assert ground_by_text(MAPS.replace(old, new).splitlines(), 0x500000, 0x500040) != there


def test_nothing_is_nothing() -> None:
    assert ground_by_text(MAPS.splitlines(), 0x600000, 0x600001) == ()
    assert len(ground_by_text(MAPS.splitlines(), 0x400800, 0x402800)) == 2
