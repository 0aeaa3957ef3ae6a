"""Descriptors that accept signals: signalfd(2)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from agent.context.kind import Depends, Restore, Walk
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.kernel.libc import NR
from agent.reason import Reason


@dataclass(frozen=True, slots=True)
class Signalfd:
    """mask: bit N-1 for signal N."""

    nonblocking: bool
    mask: int


class SignalfdKind:
    """A signalfd holds nothing but its mask: the signals wait in the process."""

    name = "signalfd"
    depends: Depends = "look"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is one."""
        return look.link == "anon_inode:[signalfd]"

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Everything stands in fdinfo."""
        return pack(Signalfd(bool(look.flags & os.O_NONBLOCK), int(look.field("sigmask"), 16)))

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """None."""
        return []

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """signalfd4(2) with the mask."""
        record = unpack(Signalfd, data, key)
        flags = os.O_NONBLOCK if record.nonblocking else 0
        mask = struct.pack("<Q", record.mask)
        restore.place(key, restore.batch.add(NR.SIGNALFD4, -1, mask, len(mask), flags, name=f"signalfd4 of {key}"))
