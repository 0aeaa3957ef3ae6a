"""The files behind a journal: records with checksums, the vote, and what a crash leaves of them. All of it blocks.

file:   "KGMJ" 01 00 00 00, records
record: u32 bytes of command, u64 xxh3-64 of what follows, u64 index, u64 term, command     (little-endian)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import xxhash

from cluster.raft.errors import StorageError
from cluster.raft.storage import replace_file, write_all, write_sealed
from cluster.raft.wire import COMMAND_BYTES_MAX, Entry

JOURNAL_MAGIC: Final = b"KGMJ\x01\x00\x00\x00"
_HEAD: Final = struct.Struct("<IQ")
_PLACE: Final = struct.Struct("<QQ")
HEAD_BYTES: Final = _HEAD.size + _PLACE.size


class JournalFile:
    """`path`, open to be appended to, and the vote beside it. Raises StorageError when the disk refuses something."""

    def __init__(self, path: Path, vote: Path) -> None:
        self._path = path
        self._vote = vote
        self._dirty = False
        if not path.exists():
            replace_file(path, JOURNAL_MAGIC)
        self.descriptor = self._open()

    def read(self) -> list[Entry]:
        """Return the entries; a last one that was cut short is cut off. Raises StorageError when they are damaged."""
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            raise self._failed(error) from None
        if not raw.startswith(JOURNAL_MAGIC):
            raise StorageError(f"{self._path}: is no journal")
        entries: list[Entry] = []
        end = len(JOURNAL_MAGIC)
        while entry := _entry_at(raw, end, str(self._path)):
            if entries and entry[1] != entries[-1][1] + 1:
                raise StorageError(f"{self._path}: entry {entry[1]} follows entry {entries[-1][1]}")
            entries.append(entry)
            end += HEAD_BYTES + len(entry[0])
        if end < len(raw):
            # Cut short by a crash before it was synced: nobody was told of it.
            self.cut(end)
            self.sync()
        return entries

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries. Not durable before `sync`."""
        self._dirty = True
        try:
            write_all(self.descriptor, b"".join(_record(*entry) for entry in entries))
        except OSError as error:
            raise self._failed(error) from None

    def cut(self, end: int) -> None:
        """Forget what comes after byte `end`. Not durable before `sync`."""
        self._dirty = True
        try:
            os.ftruncate(self.descriptor, end)
        except OSError as error:
            raise self._failed(error) from None

    def sync(self) -> None:
        """Make all that was appended or cut durable."""
        if self._dirty:
            try:
                os.fdatasync(self.descriptor)
            except OSError as error:
                raise self._failed(error) from None
            self._dirty = False

    def replace(self, entries: Iterable[Entry]) -> None:
        """Have these entries and no others; durable on return, and killed in it, the old ones are there."""
        replace_file(self._path, JOURNAL_MAGIC + b"".join(_record(*entry) for entry in entries))
        fresh = self._open()
        os.close(self.descriptor)
        self.descriptor, self._dirty = fresh, False

    def keep_vote(self, vote: dict[str, Any]) -> None:
        """Keep term, vote and commit index; durable on return, and all that was appended before as well."""
        # The commit index must not be ahead of the entries after a crash.
        self.sync()
        write_sealed(self._vote, vote)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(f"{self._path}: {os.strerror(error.errno or 0)}", hint="the node needs its disk to agree")


def _record(command: bytes, index: int, term: int) -> bytes:
    rest = _PLACE.pack(index, term) + command
    return _HEAD.pack(len(command), xxhash.xxh3_64_intdigest(rest)) + rest


def _entry_at(raw: bytes, start: int, where: str) -> Entry | None:
    """Return the entry at an offset; None at the end, and where the end was cut short. Raises StorageError."""
    if len(raw) - start < HEAD_BYTES:
        return None
    size, digest = _HEAD.unpack_from(raw, start)
    end = start + HEAD_BYTES + size
    if size == 0 and not any(raw[start:]):
        return None  # the file grew before its bytes were written
    if (
        size == 0
        or size > COMMAND_BYTES_MAX + 1
        or (end <= len(raw) and xxhash.xxh3_64_intdigest(raw[start + 12 : end]) != digest)
    ):
        raise StorageError(f"{where}: the record at byte {start} is damaged")
    if end > len(raw):
        return None
    index, term = _PLACE.unpack_from(raw, start + _HEAD.size)
    return raw[start + HEAD_BYTES : end], index, term
