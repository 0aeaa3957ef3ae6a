"""The log of a member on its disk, and its term and vote, with the interface that pysyncobj expects of a journal.

pysyncobj's own file is a memory map: it is never synced, loses entries when it is killed in a compaction, and a full
disk kills the process. This one is an append-only file of records, each with a checksum; `sync` makes it durable, and
its owner calls that before the entries count: before a follower answers for them, and before a leader counts itself. A
compaction writes a new file and renames it.

    file:   "KGMJ" 01 00 00 00, records
    record: u32 bytes of command, u64 xxh3-64 of what follows, u64 index, u64 term, command     (little-endian)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, overload

import xxhash

from cluster.raft.errors import StorageError
from cluster.raft.storage import read_sealed, replace_file, write_all, write_sealed
from cluster.raft.wire import COMMAND_BYTES_MAX, Entry

JOURNAL_MAGIC: Final = b"KGMJ\x01\x00\x00\x00"
_HEAD: Final = struct.Struct("<IQ")
_PLACE: Final = struct.Struct("<QQ")
_HEAD_BYTES: Final = _HEAD.size + _PLACE.size


class Journal:
    """Entries in `directory`/journal; term, vote and the last commit index in `directory`/vote.

    Raises StorageError when the files are damaged, and when they can't be written: then nothing that follows may be
    believed, and the member must stop.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "journal"
        self._vote_path = directory / "vote"
        self._entries: list[Entry] = []
        self._offsets: list[int] = []
        self._dirty = False
        vote = read_sealed(self._vote_path) or {"term": 0, "voted_for": None, "commit": 1}
        self._term: int = vote["term"]
        self._voted_for: str | None = vote["voted_for"]
        self._commit: int = vote["commit"]
        self._commit_kept = self._commit
        if not self._path.exists():
            replace_file(self._path, JOURNAL_MAGIC)
        self._file = self._open()
        try:
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        return self._entries[place]

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry. Not durable before `sync`."""
        record = _record(command, index, term)
        self._write(record)
        self._entries.append((command, index, term))
        self._offsets.append(self._end)
        self._end += len(record)

    @property
    def is_dirty(self) -> bool:
        """Whether there is something that is not durable yet."""
        return self._dirty

    def sync(self) -> None:
        """Make all that was added or cut durable."""
        if self._dirty:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                raise self._failed(error) from None
            self._dirty = False

    def clear(self) -> None:
        """Forget all entries."""
        self.deleteEntriesFrom(0)

    def deleteEntriesFrom(self, place: int) -> None:
        """Forget the entries from this place of the list on."""
        if place < len(self._entries):
            self._cut(self._offsets[place])
            del self._entries[place:]
            del self._offsets[place:]

    def deleteEntriesTo(self, place: int) -> None:
        """Forget the entries before this place of the list; durable on return, and killed in it, nothing is lost."""
        if place <= 0:
            return
        entries = self._entries[place:]
        self._replace(entries)
        self._entries = entries

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        """Keep term and vote; durable on return."""
        self._term = term
        self._voted_for = voted_for
        self._keep_vote()

    def getCurrentTerm(self) -> int:
        return self._term

    def getVotedForNodeId(self) -> str | None:
        return self._voted_for

    def setRaftCommitIndex(self, index: int) -> None:
        """Note what is known as agreed; kept once a second, as no more than a start after a restart."""
        self._commit = index

    def getRaftCommitIndex(self) -> int:
        """Return the highest index that is known as agreed and that is in the journal."""
        return min(self._commit, self._entries[-1][1]) if self._entries else 1

    def onOneSecondTimer(self) -> None:
        """Keep the commit index, if it has changed."""
        if self._commit != self._commit_kept:
            self._keep_vote()

    def close(self) -> None:
        """Keep everything and let go of the file."""
        try:
            self.sync()
            self.onOneSecondTimer()
        finally:
            os.close(self._file)

    def _keep_vote(self) -> None:
        # The commit index must not be ahead of the entries after a crash.
        self.sync()
        write_sealed(self._vote_path, {"term": self._term, "voted_for": self._voted_for, "commit": self._commit})
        self._commit_kept = self._commit

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(error) from None

    def _read(self) -> None:
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            raise self._failed(error) from None
        if not raw.startswith(JOURNAL_MAGIC):
            raise StorageError(f"{self._path}: is no journal")
        self._end = len(JOURNAL_MAGIC)
        while entry := _entry_at(raw, self._end, str(self._path)):
            if self._entries and entry[1] != self._entries[-1][1] + 1:
                raise StorageError(f"{self._path}: entry {entry[1]} follows entry {self._entries[-1][1]}")
            self._entries.append(entry)
            self._offsets.append(self._end)
            self._end += _HEAD_BYTES + len(entry[0])
        if self._end < len(raw):
            # Cut short by a crash before it was synced: nobody was told of it.
            self._cut(self._end)
            self.sync()

    def _replace(self, entries: Iterable[Entry]) -> None:
        pieces = [JOURNAL_MAGIC]
        offsets: list[int] = []
        end = len(JOURNAL_MAGIC)
        for command, index, term in entries:
            pieces.append(_record(command, index, term))
            offsets.append(end)
            end += len(pieces[-1])
        replace_file(self._path, b"".join(pieces))
        fresh = self._open()
        os.close(self._file)
        self._file, self._offsets, self._end, self._dirty = fresh, offsets, end, False

    def _write(self, record: bytes) -> None:
        self._dirty = True
        try:
            write_all(self._file, record)
        except OSError as error:
            raise self._failed(error) from None

    def _cut(self, end: int) -> None:
        self._dirty = True
        try:
            os.ftruncate(self._file, end)
        except OSError as error:
            raise self._failed(error) from None
        self._end = end

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(f"{self._path}: {os.strerror(error.errno or 0)}", hint="the node needs its disk to agree")


def _record(command: bytes, index: int, term: int) -> bytes:
    rest = _PLACE.pack(index, term) + command
    return _HEAD.pack(len(command), xxhash.xxh3_64_intdigest(rest)) + rest


def _entry_at(raw: bytes, start: int, where: str) -> Entry | None:
    """Return the entry at an offset; None at the end, and where the end was cut short. Raises StorageError."""
    if len(raw) - start < _HEAD_BYTES:
        return None
    size, digest = _HEAD.unpack_from(raw, start)
    end = start + _HEAD_BYTES + size
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
    return raw[start + _HEAD_BYTES : end], index, term
