"""Files with a name, directories and harmless devices: opened anew, at the same path, with the same flags and offset.

A regular file that can be written needs a rule of program.toml, because its content is not mirrored:

local    each node has a file of its own at that path (a log): made if it is missing, the offset at most at its end.
discard  a file whose content does not matter (a cache): emptied.
shared   see `agent.context.shared_files`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from agent.context.file_locks import leases_of, locks_of, retake
from agent.context.kind import Depends, Restore, Walk, refuse, text
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.errors import RestoreError
from agent.kernel.libc import NR
from agent.reason import Reason

O_PATH = 0o10000000
O_TMPFILE = 0o20000000
NOT_AGAIN = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOCTTY | O_TMPFILE
"""Flags of open(2) that make or empty a file: what a program did once is not done again. (O_TMPFILE comes together with
O_DIRECTORY, which only directories keep.)"""
_HARMLESS = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)})  # null, zero, full, random, urandom
_MODE = 0o640


@dataclass(frozen=True, slots=True)
class File:
    """treatment: "plain" (regular, only read), "device", "directory", or the rule, "local" or "discard".

    flags: of open(2). locks: the fields of `agent.context.file_locks.Lock`.
    """

    path: str
    treatment: str
    flags: int
    position: int
    locks: tuple[tuple[str, str, int, int], ...]


class FileKind:
    """Whatever still has the name that it was opened by, and is no shared file to be written."""

    name = "file"
    depends: Depends = "look"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it has a path; the kinds for what was deleted or is shared are asked before this one."""
        return look.link.startswith("/")

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Path, rule, flags, offset, locks."""
        for reason in self.reasons(look, walk):
            raise refuse(reason)
        treatment = _treatment(look, os.stat(walk.path(look.number)), walk) or ""
        flags = look.flags & ~NOT_AGAIN & ~(0 if treatment == "directory" else os.O_DIRECTORY)
        locks = tuple(lock.fields() for lock in locks_of(look))
        return pack(File(look.link, treatment, flags, look.position, locks))

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Files to be written without a rule, terminals and other devices, named pipes, leases."""
        where = f"{look.link} ({walk.where(look.number)})"
        if leases_of(look):
            return [Reason("a file lease", where, "start the program without it")]
        status = os.stat(walk.path(look.number))
        if _treatment(look, status, walk) is not None:
            return []
        if stat.S_ISREG(status.st_mode):
            remedy = f'add [[files]] with path = "{look.link}" and rule = "shared", "local" or "discard"'
            return [Reason("a regular file open for writing without a rule", where, remedy)]
        return [Reason(_unusual(status), where, "start the program without it")]

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Open it; `local` and `discard` make what is missing."""
        record = unpack(File, data, key)
        flags = record.flags & ~NOT_AGAIN
        if record.treatment in ("local", "discard"):
            flags |= os.O_CREAT
        if record.treatment == "discard":
            flags |= os.O_TRUNC
        row = restore.batch.add(NR.OPEN, text(record.path), flags, _MODE, name=f"open of {record.path}")
        number = restore.place(key, row)
        position = _position(record, restore)
        if position:
            restore.batch.add(NR.LSEEK, number, position, os.SEEK_SET, name=f"offset of {record.path}")
        retake(record.locks, number, restore)

    def check(self, key: str, data: bytes, root: str) -> None:
        """Whether a mirror has what a takeover will open, ahead of it. Raises RestoreError naming the path."""
        record = unpack(File, data, key)
        needed = os.path.dirname(record.path) if record.treatment in ("local", "discard") else record.path
        require_path(needed, root, key)


def require_path(path: str, root: str, key: str) -> None:
    """Raises RestoreError when `path` does not exist under `root`."""
    if not os.path.exists(root + path):
        raise RestoreError(f"{path} of the program ({key}) does not exist on this node", hint=f"put {path} in place")


def _treatment(look: Look, status: os.stat_result, walk: Walk) -> str | None:
    """The word for the record; None: refused."""
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    if look.flags & O_PATH:
        return "plain"
    if stat.S_ISCHR(status.st_mode):
        return "device" if (os.major(status.st_rdev), os.minor(status.st_rdev)) in _HARMLESS else None
    if not stat.S_ISREG(status.st_mode):
        return None
    if look.access == os.O_RDONLY:
        return "plain"
    rule = walk.rule_for(look.link)
    return rule if rule in ("local", "discard") else None


def _position(record: File, restore: Restore) -> int:
    """The offset to be set."""
    if record.treatment in ("device", "discard") or not record.position:
        return 0
    if record.treatment != "local":
        return record.position
    try:
        return min(record.position, os.stat(restore.path(record.path)).st_size)
    except FileNotFoundError:
        return 0


def _unusual(status: os.stat_result) -> str:
    mode = status.st_mode
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISBLK(mode):
        return "a block device"
    major = os.major(status.st_rdev)
    if major in (4, 5) or 136 <= major <= 143:
        return "a terminal"
    return f"a character device ({major}:{os.minor(status.st_rdev)})"
