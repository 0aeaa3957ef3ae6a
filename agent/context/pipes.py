"""Pipes, with what stands in them: pipe(7).

Both ends of a pipe are descriptions of their own with the same inode. An end that somebody outside the program holds is
not carried: after a takeover it is closed, so the program reads what stood in the pipe and then the end of file, or
gets EPIPE.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from functools import lru_cache

from agent.context.kind import Depends, Restore, Walk, refuse
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.kernel.libc import NR, attempt_held
from agent.kernel.pidfd import get_descriptor
from agent.kernel.tee import capacity_bytes, peek_pipe
from agent.reason import Reason

_F_SETFL = 4
_F_SETPIPE_SZ = 1031
_CAPACITY_BYTES = 65536
_GONE = select.POLLHUP | select.POLLERR


@dataclass(frozen=True, slots=True)
class PipeEnd:
    """pipe: the key of the pipe's record. flags: of open(2); the access mode says which end it is."""

    pipe: str
    flags: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """packets: what is written to it is read in the same pieces (O_DIRECT, a flag of the writing end).

    content: all bytes in one piece, or one piece for each packet.
    """

    packets: bool
    capacity_bytes: int
    content: tuple[bytes, ...]


class PipeKind:
    """A pipe is made anew and its content written into it."""

    name = "pipe"
    depends: Depends = "content"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is an end of an unnamed pipe."""
        return look.link.startswith("pipe:")

    def capture(self, look: Look, walk: Walk) -> bytes:
        """The end's record; the pipe's own is made with whichever end comes first."""
        for reason in _refusals(look, walk):
            raise refuse(reason)
        key = f"pipe/{look.inode}"
        if key not in walk.extra:
            walk.extra[key] = _packed(_pipe(_ends(look, walk), walk))
        return _packed(PipeEnd(key, look.flags))

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """An end outside of the program is lost."""
        found = _refusals(look, walk)
        if not found and len({end.access for end in _ends(look, walk)}) == 1:
            with walk.duplicate(look.number) as descriptor:
                if not _other_end_is_closed(descriptor):
                    what = "a pipe whose other end is outside of the program; after a takeover it is closed"
                    remedy = "let the program use a file or a socket instead"
                    found.append(Reason(what, walk.where(look.number), remedy, lost=True))
        return found

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Make the pipe with the first of its ends; both go to spare numbers first: they may be wanted crosswise."""
        if key in restore.opened:
            return
        end = unpack(PipeEnd, data, key)
        pipe = unpack(Pipe, restore.records[end.pipe], end.pipe)
        batch, table = restore.batch, restore.table
        batch.add(NR.PIPE2, bytes(8), os.O_DIRECT if pipe.packets else 0, name=f"pipe2 of {end.pipe}")
        numbers = []
        for _ in range(2):
            numbers.append(table.lowest())
            table.take(numbers[-1])
        reader, writer = (table.park(batch, number) for number in numbers)
        if pipe.capacity_bytes != _CAPACITY_BYTES:
            batch.add(NR.FCNTL, writer, _F_SETPIPE_SZ, pipe.capacity_bytes, name=f"capacity of {end.pipe}")
        for piece in pipe.content:
            batch.add(NR.WRITE, writer, piece, len(piece), name=f"content of {end.pipe}", expect=len(piece))
        for access, parked in ((os.O_RDONLY, reader), (os.O_WRONLY, writer)):
            self._place_ends(end.pipe, access, parked, restore)

    def _place_ends(self, pipe: str, access: int, parked: int, restore: Restore) -> None:
        """All descriptions of one end; a second one exists if the program opened it by /proc."""
        found = []
        for key, record in restore.records_of(self.name):
            end = unpack(PipeEnd, record, key)
            if end.pipe == pipe and end.flags & os.O_ACCMODE == access:
                found.append((key, end))
        for key, end in found[1:]:
            path = f"/proc/self/fd/{parked}\0".encode()
            number = restore.place(key, restore.batch.add(NR.OPEN, path, end.flags, 0, name=f"open of {key}"))
            restore.batch.add(NR.FCNTL, number, _F_SETFL, end.flags, name=f"flags of {key}")
        if not found:
            restore.table.close(restore.batch, parked)
            return
        key, end = found[0]
        number = restore.place_parked(key, parked)
        if end.flags & ~os.O_ACCMODE:
            restore.batch.add(NR.FCNTL, number, _F_SETFL, end.flags, name=f"flags of {key}")


def _pipe(ends: list[Look], walk: Walk) -> Pipe:
    packets = any(end.flags & os.O_DIRECT for end in ends)
    reader = next((end for end in ends if end.access == os.O_RDONLY), None)
    descriptor = get_descriptor(walk.pidfd, (reader or ends[0]).number)
    try:
        content = peek_pipe(descriptor, packets=packets) if reader is not None else []
        return Pipe(packets, capacity_bytes(descriptor), tuple(content))
    finally:
        attempt_held(NR.CLOSE, descriptor)


@lru_cache(maxsize=256)
def _packed(record: PipeEnd | Pipe) -> bytes:
    """Most pipes are empty, and stay so."""
    return pack(record)


def _ends(look: Look, walk: Walk) -> list[Look]:
    return [other for other in walk.looks.values() if other.inode == look.inode and other.link == look.link]


def _refusals(look: Look, walk: Walk) -> list[Reason]:
    if look.access == os.O_RDWR:
        what = "a pipe opened for reading and writing at once (by /proc/PID/fd)"
        return [Reason(what, walk.where(look.number), "open each end for itself")]
    return []


def _other_end_is_closed(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & _GONE for _, events in poll.poll(0))
