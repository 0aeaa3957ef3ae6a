"""Regular files without a name (unlinked, or O_TMPFILE): their content is carried (`agent.context.content`)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from agent.context import content
from agent.context.files import NOT_AGAIN, O_TMPFILE
from agent.context.kind import Depends, Restore, Walk, refuse, text
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.kernel.libc import NR
from agent.reason import Reason

_SUFFIX = " (deleted)"
_FALLBACK = "/tmp"


@dataclass(frozen=True, slots=True)
class DeletedFile:
    """path: the name that it had. stamp: the fields of `agent.context.content.Stamp`."""

    path: str
    flags: int
    mode: int
    position: int
    stamp: tuple[int, int, int, int, int]


class DeletedFileKind:
    """A file without a name is made anew, beside where it was, and filled before the program goes on."""

    name = "deleted-file"
    depends: Depends = "content"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether its name is gone; a file may also be called "x (deleted)"."""
        if not look.link.endswith(_SUFFIX) or not look.link.startswith("/"):
            return False
        status = os.stat(walk.path(look.number))
        return stat.S_ISREG(status.st_mode) and not _is_at(look.link, status)

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Its content is read again only if it may have changed."""
        for reason in self.reasons(look, walk):
            raise refuse(reason)
        status = os.stat(walk.path(look.number))
        stamp = content.Stamp.of(status)
        path = look.link.removesuffix(_SUFFIX)
        record = DeletedFile(
            path, look.flags & ~NOT_AGAIN & ~os.O_DIRECTORY, stat.S_IMODE(status.st_mode), look.position, stamp.fields()
        )
        before = walk.previous.get("ofd/" + walk.keys[look.number])
        known = before is not None and unpack(DeletedFile, before).stamp == record.stamp
        pieces = content.unchanged(walk.previous, stamp) if known else content.capture(walk.path(look.number), stamp)
        walk.extra.update(pieces)
        return pack(record)

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Too large."""
        return content.too_large(os.stat(walk.path(look.number)), "a deleted file", walk.where(look.number))

    def make_ahead(self, key: str, data: bytes, restore: Restore) -> None:
        """Make the file at a spare number, beside where it was, and fill it."""
        record = unpack(DeletedFile, data, key)
        stamp = content.Stamp(*record.stamp)
        identity = (stamp.device, stamp.inode)
        if identity in restore.inner_files:
            return
        directory = os.path.dirname(record.path)
        if not os.path.isdir(restore.path(directory)):
            directory = _FALLBACK
        batch = restore.new_batch()
        flags = O_TMPFILE | os.O_DIRECTORY | os.O_RDWR
        row = batch.add(NR.OPEN, text(directory), flags, record.mode, name=f"O_TMPFILE in {directory} for {key}")
        spare = restore.table.park(batch, row)
        batch.add(NR.FCHMOD, spare, record.mode, name=f"mode of {key}")
        batch.run()
        restore.keep_until_end(identity, spare)
        content.write(restore.own_path(spare), stamp, restore.records)

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Every description of the file is opened anew from the one at the spare number."""
        record = unpack(DeletedFile, data, key)
        path = text(f"/proc/self/fd/{restore.inner_file(record.stamp[:2])}")
        row = restore.batch.add(NR.OPEN, path, record.flags & ~NOT_AGAIN, 0, name=f"open of {key}")
        number = restore.place(key, row)
        if record.position:
            restore.batch.add(NR.LSEEK, number, record.position, os.SEEK_SET, name=f"offset of {key}")


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False
