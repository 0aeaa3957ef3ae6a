"""The checkpoint as a value: its identity, its header, and the records of everything but memory. Pure.

A checkpoint is one consistent, numbered context of a program. The first one that a mirror gets is whole; each later one
is only what changed since its base. The wire form stands in docs/checkpoint-format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import xxhash

from transport.errors import CorruptUpdate

PAGE_BYTES: Final = 4096
PAGE_WORDS: Final = PAGE_BYTES // 8
PART_PAGES: Final = 2048
"""Most pages in one part: 8 MiB, small enough to stay in a buffer that is allocated once."""

Records = dict[str, bytes]
"""The context without memory: `room/name` -> the bytes of that room's record. Unchanged state has identical bytes."""

Kind = Literal["delta", "union", "full"]
"""delta: XOR against the checkpoint before. union: whole pages against any older one. full: whole, against nothing."""

_CHAIN = struct.Struct("<QQQQQQI")


@dataclass(frozen=True, slots=True)
class Version:
    """The identity of a state: fencing token, number of the checkpoint (rises by one), digest of its history (64 bits).

    Two states are the same only if all three are equal: a node that was promoted elsewhere may give the same number
    to another state, and an agent that was started again may begin again with number 1 under the same token.
    """

    token: int
    number: int
    digest: int

    def is_or_follows(self, other: Version) -> bool:
        """Whether it is that state, or a later one of the same primary."""
        return self == other or (self.token == other.token and self.number > other.number)

    def __str__(self) -> str:
        return f"{self.token}.{self.number}.{self.digest:016x}"


NOTHING: Final = Version(0, 0, 0)
"""Holds no state at all: the base of a full transfer, and what a mirror says that has just started."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a checkpoint says of itself.

    version: the state that it leads to; base: the state that it must be applied to (NOTHING for a full one).
    captured_ns: CLOCK_REALTIME of the stop. pages, parts: how many pages in all, in how many page parts (the records
    part is not counted). final: the program is gone or held; no checkpoint follows under this token.

    A full transfer does not know its end when it begins: at its beginning `version` is the state at the start of the
    transfer, `pages` what is expected, `parts` 0; the header at its end has the true values.
    """

    program: str
    version: Version
    base: Version
    captured_ns: int
    pages: int
    parts: int
    final: bool
    kind: Kind


def chain_digest(previous: Version, token: int, number: int, part_sums: Sequence[int], records_sum: int) -> int:
    """Return the digest of the state that follows `previous` by a delta with these checksums (never 0).

    `part_sums`: the checksums of the delta's page parts, in order; `records_sum`: that of its records part
    (`combined_sum` of several). Whoever has the delta can compute it again, so equal digests mean equal histories.
    """
    count = len(part_sums)
    head = _CHAIN.pack(previous.token, previous.number, previous.digest, token, number, records_sum, count)
    return xxhash.xxh3_64_intdigest(head + struct.pack(f"<{count}Q", *part_sums)) or 1


def combined_sum(sums: Sequence[int]) -> int:
    """Return one checksum for several, in order; that of a single one is itself (64 bits each)."""
    return sums[0] if len(sums) == 1 else xxhash.xxh3_64_intdigest(struct.pack(f"<{len(sums)}Q", *sums))


def diff_records(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> tuple[Records, tuple[str, ...]]:
    """Return `(changed, removed)`: records of `new` that `old` lacks or has otherwise, and keys that only `old` has."""
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    removed = tuple(sorted(key for key in old if key not in new))
    return changed, removed


def apply_records(old: Mapping[str, bytes], changed: Mapping[str, bytes], removed: Iterable[str]) -> Records:
    """Return `old` with `changed` put in and `removed` taken out; `old` stays as it is.

    Raises CorruptUpdate when a key is to be removed that is not there, or is changed and removed at once.
    """
    result = dict(old)
    for key in removed:
        if key in changed or result.pop(key, None) is None:
            raise CorruptUpdate(f"record {key!r} is to be removed, but its base does not have it")
    result.update(changed)
    return result
