"""How a shadow's mappings follow the program's: the rows of mmap(2), munmap(2), mprotect(2) and madvise(2).

Shared memory that lives only as long as someone holds it is made again as one memfd for each object, which stays open
in the shadow at a number above all of the program's: later mappings of the object and the program's own descriptors of
it are made from that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agent.context.layout import EXECUTE, READ, WRITE, Advise, Area, Change, Map, Protect, Unmap
from agent.kernel.libc import NR
from agent.mirror.batch import Batch
from agent.mirror.fdtable import DescriptorTable

_MFD_ALLOW_SEALING: Final = 2
_MAP_SHARED: Final = 0x01
_MAP_PRIVATE: Final = 0x02
_MAP_FIXED: Final = 0x10
_MAP_ANONYMOUS: Final = 0x20
_MAP_GROWSDOWN: Final = 0x100
_MAP_NORESERVE: Final = 0x4000
_MAP_STACK: Final = 0x20000
_MLOCK_ONFAULT: Final = 1
_O_CLOEXEC: Final = 0o2000000

# VmFlags (proc_pid_smaps(5)) -> the advice of madvise(2) that sets them and the one that takes them back, if any.
_ADVICE: Final[dict[str, tuple[int, int | None]]] = {
    "hg": (14, None),
    "nh": (15, None),
    "dd": (16, 17),
    "dc": (10, 11),
    "wf": (18, 19),
    "mg": (12, 13),
}

ObjectId = tuple[int, int]
"""(st_dev, st_ino) of shared memory, in the original."""


def object_id(area: Area) -> ObjectId:
    """Which object an area maps; /proc/PID/maps prints a device as hexadecimal major:minor."""
    major, _, minor = area.device.partition(":")
    return os.makedev(int(major, 16), int(minor, 16)), area.inode


class Remapping:
    """Adds the rows for one shadow; knows which shared objects it holds open."""

    def __init__(self, table: DescriptorTable) -> None:
        self._table = table
        self._objects: dict[ObjectId, int] = {}
        self._sizes: dict[ObjectId, int] = {}
        # The file that the rows added so far have open, at a number that the table does not know: neighbours share it.
        self._file: tuple[str, int, int] | None = None

    def object_number(self, identity: ObjectId) -> int | None:
        """The shadow's descriptor number of a shared object that is or was mapped, None for any other."""
        return self._objects.get(identity)

    def add(self, batch: Batch, changes: Sequence[Change]) -> None:
        """Rows for all changes of a layout, in their order."""
        for change in changes:
            if isinstance(change, Map):
                self._map(batch, change.area)
            elif isinstance(change, Unmap):
                batch.add(NR.MUNMAP, change.start, change.end - change.start, name=f"munmap {change.start:#x}")
            elif isinstance(change, Protect):
                size = change.end - change.start
                batch.add(NR.MPROTECT, change.start, size, change.protection, name=f"mprotect {change.start:#x}")
            else:
                _advise(batch, change)
        self._close_file(batch)

    def renumber(self, moved: Mapping[int, int]) -> None:
        """Objects whose descriptors were moved (old number -> new one)."""
        self._objects = {identity: moved.get(number, number) for identity, number in self._objects.items()}

    def forget_unmapped(self, batch: Batch, areas: Iterable[Area]) -> None:
        """Close the objects that no area maps any more."""
        mapped = {object_id(area) for area in areas if area.kind == "object"}
        for identity in [identity for identity in self._objects if identity not in mapped]:
            self._table.close(batch, self._objects.pop(identity))
            del self._sizes[identity]

    def _map(self, batch: Batch, area: Area) -> None:
        flags = _MAP_FIXED | (_MAP_SHARED if area.shared else _MAP_PRIVATE)
        number, offset = -1, 0
        if area.kind == "object":
            self._close_file(batch)
            number, offset = self._object(batch, area), area.offset
        elif area.kind == "file" and not area.pathless_copy:
            writes = area.shared and (area.protection & WRITE or "mw" in area.flags)
            mode = os.O_RDWR if writes else os.O_RDONLY
            number, offset = self._open_file(batch, area.path, mode), area.offset
        else:
            flags |= _MAP_ANONYMOUS
            if area.grows_down:
                flags |= _MAP_GROWSDOWN | _MAP_STACK
            if "nr" in area.flags:
                flags |= _MAP_NORESERVE
        protection = area.protection & (READ | WRITE | EXECUTE)
        size = area.end - area.start
        name = f"mmap {area.start:#x} of {area.path or 'memory'}"
        batch.add(NR.MMAP, area.start, size, protection, flags, number, offset, name=name, expect=area.start)
        if area.flags:
            _advise(batch, Advise(area.start, area.end, (), area.flags))

    def _open_file(self, batch: Batch, path: str, mode: int) -> int:
        if self._file is None or self._file[:2] != (path, mode):
            self._close_file(batch)
            self._file = path, mode, self._table.lowest()
            name = os.fsencode(path) + b"\0"
            batch.add(NR.OPEN, name, mode | _O_CLOEXEC, 0, name=f"open of {path}", expect=self._file[2])
        return self._file[2]

    def _close_file(self, batch: Batch) -> None:
        if self._file is not None:
            batch.add(NR.CLOSE, self._file[2], name=f"close of {self._file[0]}")
            self._file = None

    def _object(self, batch: Batch, area: Area) -> int:
        """The number of the memfd that stands for the object, made and grown as needed."""
        identity = object_id(area)
        size = max(area.size, area.offset + area.end - area.start)
        number = self._objects.get(identity)
        if number is None:
            label = os.path.basename(area.path).removeprefix("memfd:") or "shared"
            # Sealable: a memfd that was sealed, or made without sealing, is given its seals at the takeover.
            made = batch.add(NR.MEMFD_CREATE, os.fsencode(label) + b"\0", _MFD_ALLOW_SEALING, name=f"memfd {label}")
            number = self._objects[identity] = self._table.park(batch, made)
        if size > self._sizes.get(identity, 0):
            self._sizes[identity] = size
            batch.add(NR.FTRUNCATE, number, size, name=f"size of {area.path or 'shared memory'}")
        return number


def _advise(batch: Batch, change: Advise) -> None:
    size = change.end - change.start
    before, after = set(change.before), set(change.after)
    for flag in sorted(after - before):
        if flag in _ADVICE:
            name = f"madvise {flag} of {change.start:#x}"
            batch.add(NR.MADVISE, change.start, size, _ADVICE[flag][0], name=name, may_fail=True)
    for flag in sorted(before - after):
        undo = _ADVICE[flag][1] if flag in _ADVICE else None
        if undo is not None:
            name = f"madvise not {flag} of {change.start:#x}"
            batch.add(NR.MADVISE, change.start, size, undo, name=name, may_fail=True)
    if "lo" in after - before:
        # Locking must not bring in pages that the program does not have: they would be copied as dirty for ever.
        batch.add(NR.MLOCK2, change.start, size, _MLOCK_ONFAULT, name=f"mlock of {change.start:#x}", may_fail=True)
    elif "lo" in before - after:
        batch.add(NR.MUNLOCK, change.start, size, name=f"munlock of {change.start:#x}", may_fail=True)
