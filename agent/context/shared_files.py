"""Files that may be written and that both nodes see: rule `shared` of program.toml.

Such a file may be ahead of the memory that a takeover continues from. What was appended since the checkpoint is cut
off, if the program only appends (O_APPEND); if the file was changed in another way, the takeover is refused.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from agent.context.file_locks import leases_of, locks_of, retake
from agent.context.files import NOT_AGAIN, require_path
from agent.context.kind import Depends, Restore, Walk, refuse, text
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.errors import RestoreError
from agent.kernel.libc import NR
from agent.reason import Reason


@dataclass(frozen=True, slots=True)
class SharedFile:
    """size_bytes, modified_ns: of the file at the checkpoint."""

    path: str
    flags: int
    position: int
    size_bytes: int
    modified_ns: int
    locks: tuple[tuple[str, str, int, int], ...]


class SharedFileKind:
    """A regular file with the rule `shared`, open for writing."""

    name = "shared-file"
    depends: Depends = "content"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether the rule says so."""
        if not look.link.startswith("/") or look.access == os.O_RDONLY or walk.rule_for(look.link) != "shared":
            return False
        return stat.S_ISREG(os.stat(walk.path(look.number)).st_mode)

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Where the file is now, too."""
        for reason in self.reasons(look, walk):
            raise refuse(reason)
        status = os.stat(walk.path(look.number))
        locks = tuple(lock.fields() for lock in locks_of(look))
        flags = look.flags & ~NOT_AGAIN
        return pack(SharedFile(look.link, flags, look.position, status.st_size, status.st_mtime_ns, locks))

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Leases."""
        where = f"{look.link} ({walk.where(look.number)})"
        return [Reason("a file lease", where, "start the program without it")] if leases_of(look) else []

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Open it, and make sure that it fits the memory."""
        record = unpack(SharedFile, data, key)
        cut = _must_be_cut(record, restore)
        row = restore.batch.add(NR.OPEN, text(record.path), record.flags & ~NOT_AGAIN, 0, name=f"open of {record.path}")
        number = restore.place(key, row)
        if cut:
            restore.batch.add(NR.FTRUNCATE, number, record.size_bytes, name=f"cut of {record.path}")
        if record.position:
            restore.batch.add(NR.LSEEK, number, record.position, os.SEEK_SET, name=f"offset of {record.path}")
        retake(record.locks, number, restore)

    def check(self, key: str, data: bytes, root: str) -> None:
        """Whether a mirror sees the file, ahead of a takeover. Raises RestoreError naming the path."""
        require_path(unpack(SharedFile, data, key).path, root, key)


def _must_be_cut(record: SharedFile, restore: Restore) -> bool:
    """Raises RestoreError when the file has left what the memory believes of it."""
    if restore.rehearsal:
        return False
    try:
        now = os.stat(restore.path(record.path))
    except OSError as error:
        raise RestoreError(f"shared file {record.path}: {error.strerror}") from error
    if (now.st_size, now.st_mtime_ns) == (record.size_bytes, record.modified_ns):
        return False
    if not record.flags & os.O_APPEND or now.st_size < record.size_bytes:
        raise RestoreError(
            f"shared file {record.path} was changed after the checkpoint that is to be continued",
            hint='restart the program; guarantee = "sync" avoids this',
        )
    return now.st_size > record.size_bytes
