"""Interest lists of epoll(7).

An entry belongs to a description AND to the number under which it was registered. A program may close that number while
the description lives on under another one (dup(2)), and even use the number for something else: such an entry is
registered anew under its old number, which is lent to its description for that moment.

Not carried: an EPOLLONESHOT entry that has fired and waits to be armed again still hears of hang-ups and errors
afterwards (epoll_ctl(2) can't ask for less); and entries whose description no number of the program stands for now.
The ready list needs no record: adding what is ready makes it ready, for edge-triggered entries, too, which may so see
an edge again that the program has already seen.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from itertools import chain

from agent.context.kind import Depends, Restore, Walk
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.errors import CaptureError
from agent.kernel.kcmp import is_epoll_target
from agent.kernel.libc import NR
from agent.reason import Reason

_WORDS = 9  # "tfd: 5 events: 19 data: 5  pos:0 ino:31c5 sdev:9"
_EVENT = struct.Struct("<IQ")
_EPOLL_CTL_ADD = 1


@dataclass(frozen=True, slots=True)
class Epoll:
    """entries: number when registered, events, data, key of the description."""

    entries: tuple[tuple[int, int, int, str], ...]


class EpollKind:
    """An epoll instance is made empty; its list is filled when everything else is in place."""

    name = "epoll"
    depends: Depends = "table"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is one."""
        return look.link == "anon_inode:[eventpoll]"

    def capture(self, look: Look, walk: Walk) -> bytes:
        """The entries stand in fdinfo in no meaningful order; they are kept sorted."""
        entries = [(number, events, data, key) for number, events, data, key in _entries(look, walk) if key is not None]
        return pack(Epoll(tuple(sorted(entries))))

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Entries of descriptions that only another process holds."""
        return [
            Reason(
                f"an epoll entry for number {number}, which the program has closed but another process holds",
                walk.where(look.number),
                "remove it with EPOLL_CTL_DEL before closing the number",
                lost=True,
            )
            for number, _, _, key in _entries(look, walk)
            if key is None
        ]

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Only the instance itself."""
        unpack(Epoll, data, key)
        restore.place(key, restore.batch.add(NR.EPOLL_CREATE1, 0, name=f"epoll_create1 of {key}"))

    def fill(self, restore: Restore) -> None:
        """Register all entries of all instances; call it when every description stands at all of its numbers."""
        for key, data in restore.records_of(self.name):
            epoll = restore.number(key)
            for registered, events, value, target in unpack(Epoll, data, key).entries:
                places = restore.places.get(target)
                if places is None:
                    continue
                if any(place.number == registered for place in places):
                    _register(restore, epoll, registered, events, value)
                else:
                    _register_under_old_number(restore, epoll, registered, events, value, places[0].number)


def _entries(look: Look, walk: Walk) -> list[tuple[int, int, int, str | None]]:
    """Number when registered, events, data, key of the description: None if no number stands for it."""
    words = look.details.split()
    if len(words) % _WORDS or words[::_WORDS] != [b"tfd:"] * (len(words) // _WORDS):
        raise CaptureError(f"fdinfo of descriptor {look.number} ({look.link}) is not understood: {look.details[:80]!r}")
    numbers = list(map(int, words[1::_WORDS]))
    events = [int(word, 16) for word in words[3::_WORDS]]
    data = [int(word, 16) for word in words[5::_WORDS]]
    inodes = [int(word[4:], 16) for word in words[7::_WORDS]]
    sockets = walk.socket_keys()
    keys: list[str | None] = [sockets.get(inode) for inode in inodes]
    seen: Counter[int] = Counter()
    for position, key in enumerate(keys):
        if key is None:
            keys[position] = _target(look, walk, numbers[position], inodes[position], seen[numbers[position]])
        seen[numbers[position]] += 1
    return list(zip(numbers, events, data, keys, strict=True))


def _target(look: Look, walk: Walk, registered: int, inode: int, occurrence: int) -> str | None:
    """The description of an entry: nearly always the one that still has the number.

    Only a socket's inode is its own; all else is asked of the kernel.
    """
    likely = walk.looks.get(registered)
    first = [registered] if likely is not None and likely.inode == inode else []
    others = (number for number, other in walk.looks.items() if other.inode == inode and number != registered)
    for number in chain(first, others):
        if is_epoll_target(walk.pid, number, look.number, registered, occurrence):
            return walk.keys[number]
    return None


def _register(restore: Restore, epoll: int, number: int, events: int, value: int) -> None:
    event = _EVENT.pack(events, value)
    restore.batch.add(NR.EPOLL_CTL, epoll, _EPOLL_CTL_ADD, number, event, name=f"epoll_ctl of {epoll} for {number}")


def _register_under_old_number(
    restore: Restore, epoll: int, registered: int, events: int, value: int, number: int
) -> None:
    """Lend the number to the description: what stands there is parked meanwhile, and comes back as it was."""
    batch, table = restore.batch, restore.table
    owner = next((place for places in restore.places.values() for place in places if place.number == registered), None)
    parked = table.park(batch, registered) if owner is not None else None
    table.take(registered)
    table.duplicate(batch, number, registered, close_on_exec=False)
    _register(restore, epoll, registered, events, value)
    table.close(batch, registered)
    if parked is not None and owner is not None:
        table.take(registered)
        table.duplicate(batch, parked, registered, close_on_exec=owner.cloexec)
        table.close(batch, parked)
