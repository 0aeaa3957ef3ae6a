"""Snapshots of the state machine: one sealed file, sent in pieces; with the interface of pysyncobj's serializer.

pysyncobj's own is a pickle in gzip, and what comes from a peer replaces the file before anybody looks at it. Here the
file is msgpack behind a checksum, and what comes in pieces is checked as a whole before it takes the file's place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pysyncobj.config import SERIALIZER_STATE

from cluster.raft.disk import Disk
from cluster.raft.errors import StorageError
from cluster.raft.storage import read_sealed, replace_file, sealed, unsealed
from cluster.raft.wire import SNAPSHOT_PIECE_BYTES, Entry

SNAPSHOT_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after the entry at `index`. command, term: of that entry; previous_...: of the one before it."""

    index: int
    term: int
    command: bytes
    previous_term: int
    previous_command: bytes
    state: bytes

    @property
    def entries(self) -> tuple[Entry, Entry]:
        """What the journal begins with, in order: pysyncobj wants two."""
        return (self.previous_command, self.index - 1, self.previous_term), (self.command, self.index, self.term)


def parse_snapshot(raw: bytes, where: str) -> Snapshot:
    """Return the snapshot in these bytes. Raises StorageError when they are damaged."""
    return _made(unsealed(raw, where), where)


def _made(value: dict[str, Any], where: str) -> Snapshot:
    try:
        return Snapshot(**value)
    except TypeError:
        raise StorageError(f"{where}: is no snapshot of this version") from None


class SnapshotStore:
    """The snapshot in `directory`/snapshot. take: gives the state machine's state, as of the last applied entry.

    Files are written by the disk, in its order. trouble: why the last one could not be, or ""; the one before is still
    there.
    """

    def __init__(self, directory: Path, take: Callable[[], bytes], disk: Disk) -> None:
        self._path = directory / "snapshot"
        self._take = take
        self._disk = disk
        self._writing = False
        self._failed = False
        self._written: int | None = None
        self._leaving: dict[Hashable, tuple[bytes, int]] = {}
        self._coming: bytearray | None = None
        self.trouble = ""

    def load(self) -> Snapshot | None:
        """Return the snapshot, or None when there is none. Raises StorageError when it is damaged."""
        value = read_sealed(self._path)
        return None if value is None else _made(value, str(self._path))

    def keep(self, raw: bytes) -> None:
        """Have the file replaced by a snapshot that came from the leader. If the disk refuses it, the member stops."""
        self._disk.order(partial(replace_file, self._path, raw), self._leaving.clear)

    def failed_just_now(self) -> bool:
        """Return once that the last one could not be written."""
        failed, self._failed = self._failed, False
        return failed

    def receive(self, data: bytes, first: bool, last: bool) -> bytes | None:
        """Take a piece; return the whole once it is complete, unchecked. What is out of order is dropped."""
        if first:
            self._coming = bytearray()
        if self._coming is None:
            return None
        self._coming += data
        if len(self._coming) > SNAPSHOT_BYTES_MAX:
            self._coming = None
            return None
        if not last:
            return None
        whole, self._coming = bytes(self._coming), None
        return whole

    # What pysyncobj calls; its names.

    def serialize(self, data: tuple[Any, Entry, Entry, Any], number: int) -> None:
        """Have a snapshot of now written; `data` holds the last applied entry and the one before it."""
        _, (command, index, term), (previous_command, _, previous_term), _ = data
        snapshot = Snapshot(index, term, command, previous_term, previous_command, self._take())
        raw = sealed(asdict(snapshot))
        if len(raw) > SNAPSHOT_BYTES_MAX:
            self._fail(f"a snapshot of {len(raw)} bytes; at most {SNAPSHOT_BYTES_MAX}")
            return
        refused: list[str] = []

        def write() -> None:
            try:
                replace_file(self._path, raw)
            except StorageError as error:
                refused.append(error.what)

        def done() -> None:
            self._writing = False
            if refused:
                self._fail(refused[0])
                return
            self.trouble = ""
            self._leaving.clear()
            self._written = number

        self._writing = True
        self._disk.order(write, done)

    def checkSerializing(self) -> tuple[int, int | None]:
        """Return whether a snapshot is being written, or once that one was, and up to where the journal may be cut."""
        if self._writing:
            return SERIALIZER_STATE.SERIALIZING, None
        number, self._written = self._written, None
        if number is None:
            return SERIALIZER_STATE.NOT_SERIALIZING, None
        return SERIALIZER_STATE.SUCCESS, number

    def getTransmissionData(self, receiver: Hashable) -> tuple[bytes, bool, bool] | None:
        """Return the next piece for `receiver`: data, whether it is the first, whether it is the last."""
        raw, start = self._leaving.get(receiver, (None, 0))
        if raw is None:
            snapshot = self.load()
            if snapshot is None:
                return None
            raw = sealed(asdict(snapshot))
        end = min(start + SNAPSHOT_PIECE_BYTES, len(raw))
        last = end == len(raw)
        if last:
            self._leaving.pop(receiver, None)
        else:
            self._leaving[receiver] = raw, end
        return raw[start:end], start == 0, last

    def cancelTransmisstion(self, receiver: Hashable) -> None:
        """Begin anew with the next piece for `receiver`."""
        self._leaving.pop(receiver, None)

    def _fail(self, trouble: str) -> None:
        self.trouble, self._failed = trouble, True
