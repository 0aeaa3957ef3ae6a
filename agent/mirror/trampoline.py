"""The trampoline: the memory in a shadow that is not the program's, from which batches of system calls run.

It lies in the middle of the largest gap of the program's layout, so that neither heap nor mappings grow into it, and is
moved should a later layout need its place. It begins with one page of code; tables and blobs follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.errors import RestoreError

PAGE_BYTES: Final = 4096
ADDRESS_MIN: Final = 1 << 28
ADDRESS_END: Final = 0x7FFF_FFFF_F000
"""End of a program's addresses on x86-64 with four levels of page tables (arch/x86/include/asm/page_64_types.h)."""
ROOM_BYTES: Final = 1 << 30
"""How far a trampoline may grow: the size of the largest batch, and the distance that is kept from the program."""
FIRST_BYTES: Final = 1 << 20

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Trampoline:
    """Where it is: `size_bytes` from `address` on, its first page being code."""

    address: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.size_bytes

    @property
    def table(self) -> int:
        """Where tables stand."""
        return self.address + PAGE_BYTES

    @property
    def room_bytes(self) -> int:
        """How much a table and its blobs may take."""
        return self.size_bytes - PAGE_BYTES

    def overlaps(self, spans: Iterable[Span]) -> bool:
        """Whether any (start, end) needs memory of it."""
        return any(start < self.end and self.address < end for start, end in spans)


def find_place(spans: Iterable[Span]) -> int:
    """A page-aligned address with ROOM_BYTES free behind it and as far as possible from all spans (start, end).

    Raises RestoreError when the address space is too full.
    """
    best_size, best = 0, 0
    before = ADDRESS_MIN
    for start, end in [*sorted(spans), (ADDRESS_END, ADDRESS_END)]:
        if start - before > best_size:
            best_size, best = start - before, before
        before = max(before, end)
    if best_size < 3 * ROOM_BYTES:
        raise RestoreError("the program's address space has no gap of 3 GiB for the shadow's own code")
    return (best + best_size // 2) // PAGE_BYTES * PAGE_BYTES
