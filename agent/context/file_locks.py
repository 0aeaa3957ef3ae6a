"""Locks on files: flock(2), and fcntl(2) locks of a process or of a description.

They show as `lock:` lines of fdinfo (proc_locks(5)). A takeover takes them again; one that somebody else holds by then
is not taken, and the program does not learn of it.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from agent.context.kind import Restore
from agent.context.look import Look
from agent.kernel.libc import NR

_LINE = re.compile(r"^lock:\s+\d+: (\w+)\s+\w+\s+(\w+)\s+-?\d+ \S+ (\d+) (\d+|EOF)$", re.MULTILINE)
_KINDS = ("FLOCK", "POSIX", "OFDLCK")
_F_SETLK, _F_OFD_SETLK = 6, 37
_FLOCK64 = struct.Struct("<hh4xqqi4x")


@dataclass(frozen=True, slots=True)
class Lock:
    """kind: FLOCK, POSIX, OFDLCK (or LEASE ...). mode: READ or WRITE. Bytes start..end; end -1: to the file's end."""

    kind: str
    mode: str
    start: int
    end: int

    def fields(self) -> tuple[str, str, int, int]:
        """As a record keeps it."""
        return (self.kind, self.mode, self.start, self.end)


def locks_of(look: Look) -> list[Lock]:
    """The locks that the program holds through this description, or (POSIX) on its file."""
    return [lock for lock in _all_of(look) if lock.kind in _KINDS]


def leases_of(look: Look) -> list[Lock]:
    """What shows like a lock but is a lease or delegation (F_SETLEASE)."""
    return [lock for lock in _all_of(look) if lock.kind not in _KINDS]


def _all_of(look: Look) -> list[Lock]:
    if b"lock:" not in look.details:
        return []
    return [
        Lock(kind, mode, int(start), -1 if end == "EOF" else int(end))
        for kind, mode, start, end in _LINE.findall(look.details.decode())
    ]


def retake(locks: Iterable[tuple[str, str, int, int]], number: int, restore: Restore) -> None:
    """Take locks of the description at `number` (as `Lock.fields` gives them), without waiting.

    Only when everything is open: any close(2) of a file's descriptor gives up all of a process's POSIX locks on it.
    """
    for lock in locks:
        restore.later.append(partial(_retake, Lock(*lock), number, restore))


def _retake(lock: Lock, number: int, restore: Restore) -> None:
    shared = lock.mode == "READ"
    name = f"lock on descriptor {number}"
    if lock.kind == "FLOCK":
        operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        restore.batch.add(NR.FLOCK, number, operation, name=name, may_fail=True)
        return
    length = 0 if lock.end < 0 else lock.end - lock.start + 1
    span = _FLOCK64.pack(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, os.SEEK_SET, lock.start, length, 0)
    command = _F_SETLK if lock.kind == "POSIX" else _F_OFD_SETLK
    restore.batch.add(NR.FCNTL, number, command, span, name=name, may_fail=True)
