"""The member's data directory: one daemon at a time, one node for ever; files that are whole or not there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, Final

import msgpack
import xxhash

from cluster.raft.errors import DirectoryInUse, StorageError

LOCK: Final = "lock"
IDENTITY: Final = "identity"
_SUM_BYTES: Final = 8


class DataDirectory:
    """Holds `path`, which is made if it is not there, for node `node` of cluster `cluster` until `close`.

    Raises DirectoryInUse when another daemon has it or it holds another node's data; StorageError.
    """

    def __init__(self, path: Path, cluster: str, node: str) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{path}: can't be used: {os.strerror(error.errno or 0)}") from None
        try:
            self._take()
            self._identify({"cluster": cluster, "node": node})
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Let another daemon have the directory."""
        os.close(self._lock)

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise DirectoryInUse(
                f"{self.path}: is in use by the daemon with process id {holder or '?'}",
                hint="one daemon has one data directory; stop the other one first",
            ) from None
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            raise StorageError(f"{self.path}: can't be written: {os.strerror(error.errno or 0)}") from None

    def _identify(self, identity: dict[str, str]) -> None:
        path = self.path / IDENTITY
        found = read_sealed(path)
        if found is None:
            write_sealed(path, identity)
        elif found != identity:
            theirs = f"node {found.get('node')} of cluster {found.get('cluster')!r}"
            raise DirectoryInUse(
                f"{self.path}: holds the data of {theirs}, not of {identity['node']} of {identity['cluster']!r}",
                hint="give every node a data directory of its own",
            )


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what `write_sealed` wrote, or None when there is no such file. Raises StorageError when it is damaged."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: can't be read: {os.strerror(error.errno or 0)}") from None
    return unsealed(raw, str(path))


def unsealed(raw: bytes, where: str) -> dict[str, Any]:
    """Return the value that `sealed` made these bytes of. Raises StorageError when they are others."""
    body = raw[_SUM_BYTES:]
    if len(raw) <= _SUM_BYTES or raw[:_SUM_BYTES] != xxhash.xxh3_64_digest(body):
        raise StorageError(f"{where}: is damaged", hint="give the node an empty data directory and a new node id")
    value: dict[str, Any] = msgpack.unpackb(body, raw=False)
    return value


def sealed(value: dict[str, Any]) -> bytes:
    """Return `value` as msgpack behind its checksum (xxh3-64)."""
    body: bytes = msgpack.packb(value, use_bin_type=True)
    return xxhash.xxh3_64_digest(body) + body


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Replace the file by one with `value`; durable on return. Raises StorageError; then the old one is still there."""
    replace_file(path, sealed(value))


def replace_file(path: Path, raw: bytes) -> None:
    """Replace the file by one with these bytes: new file, fsync, rename, fsync of the directory (rename(2)).

    Raises StorageError; then the old one is still there.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, raw)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(fresh, path)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: can't be written: {os.strerror(error.errno or 0)}") from None


def write_all(descriptor: int, raw: bytes) -> None:
    """Write all bytes at the descriptor's place. Raises OSError."""
    view = memoryview(raw)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
