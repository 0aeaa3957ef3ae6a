"""The content of files that have no name: deleted files and memfds.

It stands in records of its own, `content/<device>:<inode>/<number of the piece>`, so that only pieces that changed
travel. Pieces of zeros only are left out. A file is read again when its size or times changed (writes move them; since
Linux 6.13 every single one does).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import RestoreError
from agent.reason import Reason
from transport.checkpoint import Records

PIECE_BYTES = 128 << 10
CONTENT_BYTES_MAX = 16 << 20
"""Larger files without a name are refused: they would be read and compared inside the pause."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What moves when a file's content does. device, inode: which file it is, on the machine of the capture."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """From fstat(2)."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def prefix(self) -> str:
        """The start of the keys of its pieces."""
        return f"content/{self.device:x}:{self.inode}/"

    def fields(self) -> tuple[int, int, int, int, int]:
        """As a record keeps it."""
        return (self.device, self.inode, self.size_bytes, self.modified_ns, self.changed_ns)


def capture(path: str, stamp: Stamp, skip: Sequence[tuple[int, int]] = ()) -> Records:
    """Read the file that opens at `path`, without the byte ranges [start, end) of `skip` (multiples of a page)."""
    records: Records = {}
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        for number in range(-(-stamp.size_bytes // PIECE_BYTES)):
            start = number * PIECE_BYTES
            if any(low <= start and start + PIECE_BYTES <= high for low, high in skip):
                continue
            piece = bytearray(os.pread(descriptor, PIECE_BYTES, start))
            for low, high in skip:
                low, high = max(low - start, 0), min(high - start, len(piece))
                if low < high:
                    piece[low:high] = bytes(high - low)
            if piece.strip(b"\0"):
                records[f"{stamp.prefix}{number}"] = bytes(piece)
    finally:
        os.close(descriptor)
    return records


def too_large(status: os.stat_result, what: str, where: str, covered_bytes: int = 0) -> list[Reason]:
    """A refusal when more must be carried than CONTENT_BYTES_MAX; `covered_bytes` are mirrored with the memory."""
    if status.st_size - covered_bytes <= CONTENT_BYTES_MAX:
        return []
    size_mib, max_mib = status.st_size >> 20, CONTENT_BYTES_MAX >> 20
    return [
        Reason(f"{what} of {size_mib} MiB; at most {max_mib} are carried", where, "let the program keep less in it")
    ]


def unchanged(previous: Records, stamp: Stamp) -> Records:
    """The pieces of an earlier checkpoint."""
    prefix = stamp.prefix
    return {key: data for key, data in previous.items() if key.startswith(prefix)}


def write(path: str, stamp: Stamp, records: Records, skip: Sequence[tuple[int, int]] = ()) -> None:
    """Give the file that opens at `path` its size, and its pieces outside of `skip`. Raises RestoreError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, stamp.size_bytes)
            for key, piece in unchanged(records, stamp).items():
                start = int(key.rsplit("/", 1)[1]) * PIECE_BYTES
                for low, high in _outside(start, start + len(piece), skip):
                    os.pwrite(descriptor, memoryview(piece)[low - start : high - start], low)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RestoreError(
            f"the content of a file without a name can't be written at {path}: {error.strerror}"
        ) from error


def _outside(start: int, end: int, skip: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of [start, end) that no range of `skip` covers; `skip` is ascending."""
    parts: list[tuple[int, int]] = []
    for low, high in skip:
        if high <= start or low >= end:
            continue
        if low > start:
            parts.append((start, low))
        start = max(start, high)
    if start < end:
        parts.append((start, end))
    return parts
