"""Event counters: eventfd(2)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from agent.context.kind import Depends, Restore, Walk
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.kernel.libc import NR
from agent.reason import Reason

_EFD_SEMAPHORE = 1
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Eventfd:
    """nonblocking: O_NONBLOCK. count: what a read would take."""

    nonblocking: bool
    semaphore: bool
    count: int


class EventfdKind:
    """An event counter is made anew with its count."""

    name = "eventfd"
    depends: Depends = "look"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is one."""
        return look.link == "anon_inode:[eventfd]"

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Everything stands in fdinfo."""
        semaphore = b"eventfd-semaphore:" in look.details and int(look.field("eventfd-semaphore")) == 1
        return pack(Eventfd(bool(look.flags & os.O_NONBLOCK), semaphore, int(look.field("eventfd-count"), 16)))

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """None."""
        return []

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """The initial value of eventfd2(2) has only 32 bits, so the count is written."""
        record = unpack(Eventfd, data, key)
        flags = (os.O_NONBLOCK if record.nonblocking else 0) | (_EFD_SEMAPHORE if record.semaphore else 0)
        number = restore.place(key, restore.batch.add(NR.EVENTFD2, 0, flags, name=f"eventfd2 of {key}"))
        if record.count:
            restore.batch.add(NR.WRITE, number, _U64.pack(record.count), 8, name=f"count of {key}", expect=8)
