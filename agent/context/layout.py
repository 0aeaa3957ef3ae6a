"""How a program's address space is laid out: the record "layout", and how one layout becomes another.

The record is a msgpack list with one row per mapping, ascending by address. /proc/PID/maps says where things are;
smaps, which is slow, is asked only for mappings that are new, and only while the program runs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal

import msgpack

from agent.errors import RestoreError
from agent.memory.page_ranges import PAGE_BYTES

KEY: Final = "layout"

READ: Final = 1
WRITE: Final = 2
EXECUTE: Final = 4

Kind = Literal["anonymous", "heap", "stack", "file", "object", "special"]
"""object: shared memory that lives only as long as someone holds it (shared anonymous, memfd, /dev/shm, System V, a
deleted file). special: the kernel's own ([vdso], [vvar], [vsyscall]); placed when a shadow is made, never changed."""

FLAGS: Final = frozenset({"gd", "lo", "nr", "hg", "nh", "dd", "dc", "wf", "mg", "ht", "mw"})
"""VmFlags that matter to a shadow (proc_pid_smaps(5)): grows down, locked, no reserve, huge pages wanted, not wanted,
no core dump, not inherited, wiped at fork, mergeable, huge TLB pages; mw (shared mappings only): may be made writable,
so the file must be opened for writing too."""

_OBJECTS: Final = ("/memfd:", "/dev/zero", "/SYSV", "/dev/shm/", "[anon_shmem", "/secretmem")
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Area:
    """One mapping, or a piece of one. Addresses and `offset` in bytes.

    protection: PROT bits. path: of a file, or the label of other memory ("" for plain anonymous memory). device
    ("major:minor"), inode: of the file or object. size: bytes of the file or object behind it when it was first seen.
    flags: those of FLAGS that are set, ascending.
    """

    start: int
    end: int
    protection: int
    shared: bool
    kind: Kind
    path: str = ""
    offset: int = 0
    device: str = ""
    inode: int = 0
    size: int = 0
    deleted: bool = False
    flags: tuple[str, ...] = ()

    @property
    def grows_down(self) -> bool:
        return "gd" in self.flags or self.kind == "stack"

    @property
    def zero_filled(self) -> bool:
        """Pages that are absent read as zeros: private memory without a file."""
        return not self.shared and self.inode == 0 and self.kind != "special"

    @property
    def pathless_copy(self) -> bool:
        """A private mapping of a deleted file: a shadow can't map it, so all of its content is carried."""
        return self.deleted and not self.shared

    def piece(self, start: int, end: int) -> Area:
        """The part of it between two addresses."""
        offset = self.offset + start - self.start if self.inode else self.offset
        return replace(self, start=start, end=end, offset=offset)

    def identity(self) -> tuple[object, ...]:
        """What must be equal for the memory at one address to be the same memory: no labels, no flags."""
        if self.kind == "special":
            return ("special", self.path, self.start)
        if self.inode == 0:
            return (self.shared,)
        return (self.shared, self.device, self.inode, self.offset - self.start)


@dataclass(frozen=True, slots=True)
class Unmap:
    """Nothing is mapped in [start, end) any more."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Map:
    """The area is mapped anew, in place of whatever is there: its content is that of a new mapping."""

    area: Area


@dataclass(frozen=True, slots=True)
class Protect:
    """The memory in [start, end) stays; its protection becomes `protection`."""

    start: int
    end: int
    protection: int


@dataclass(frozen=True, slots=True)
class Advise:
    """The memory in [start, end) stays; its flags change from `before` to `after`."""

    start: int
    end: int
    before: tuple[str, ...]
    after: tuple[str, ...]


Change = Unmap | Map | Protect | Advise


def parse_line(line: bytes, size: int = 0, flags: tuple[str, ...] = ()) -> Area:
    """One line of /proc/PID/maps; size: of the file or object behind it; flags: see Area."""
    fields = line.split(None, 5)
    start, end = (int(word, 16) for word in fields[0].split(b"-"))
    permissions = fields[1]
    protection = (
        (READ if permissions[0:1] == b"r" else 0)
        | (WRITE if permissions[1:2] == b"w" else 0)
        | (EXECUTE if permissions[2:3] == b"x" else 0)
    )
    name = fields[5].decode(errors="surrogateescape").replace("\\012", "\n") if len(fields) > 5 else ""
    shared, inode = permissions[3:4] == b"s", int(fields[4])
    deleted = inode != 0 and name.endswith(_DELETED)
    kind = _kind_of(name, shared, inode, deleted)
    return Area(
        start=start,
        end=end,
        protection=protection,
        shared=shared,
        kind=kind,
        path=name.removesuffix(_DELETED) if deleted else name,
        offset=int(fields[2], 16) if inode else 0,
        device=fields[3].decode() if inode else "",
        inode=inode,
        size=size,
        deleted=deleted,
        flags=flags,
    )


def _kind_of(name: str, shared: bool, inode: int, deleted: bool) -> Kind:
    if inode:
        return "object" if shared and (deleted or name.startswith(_OBJECTS)) else "file"
    if name == "[heap]":
        return "heap"
    if name == "[stack]":
        return "stack"
    if name.startswith("[") and not name.startswith("[anon"):
        return "special"
    return "anonymous"


def encode(areas: Iterable[Area]) -> bytes:
    """The record; equal layouts give equal bytes."""
    return _packb([astuple(area) for area in areas])


def _packb(rows: object) -> bytes:
    packed: bytes = msgpack.packb(rows, unicode_errors="surrogateescape")
    return packed


def decode(record: bytes) -> list[Area]:
    """The areas of a record. RestoreError when it is none."""
    try:
        rows = msgpack.unpackb(record, use_list=False, unicode_errors="surrogateescape")
        areas = [Area(*row) for row in rows]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RestoreError(f"layout record: {error}") from error
    before = 0
    for area in areas:
        if not _sound(area, before):
            raise RestoreError(f"layout record: impossible area {area!r:.200}")
        before = area.end
    return areas


def _sound(area: Any, before: int) -> bool:
    numbers = (area.start, area.end, area.protection, area.offset, area.inode, area.size)
    if not all(type(number) is int and number >= 0 for number in numbers):
        return False
    if not (isinstance(area.path, str) and isinstance(area.device, str) and isinstance(area.flags, tuple)):
        return False
    if area.kind not in ("anonymous", "heap", "stack", "file", "object", "special"):
        return False
    if type(area.shared) is not bool or type(area.deleted) is not bool or not set(area.flags) <= FLAGS:
        return False
    return before <= area.start < area.end and not area.start % PAGE_BYTES and not area.end % PAGE_BYTES


def difference(old: Sequence[Area], new: Sequence[Area]) -> list[Change]:
    """What turns one layout into another and leaves alone what stays; both ascending and without overlaps.

    First everything that goes, then what comes, then what changes its protection or flags; within each, ascending.
    Special areas are never touched.
    """
    before = [area for area in old if area.kind != "special"]
    after = [area for area in new if area.kind != "special"]
    edges = sorted({edge for area in (*before, *after) for edge in (area.start, area.end)})
    gone: list[Change] = []
    come: list[Change] = []
    protected: list[Change] = []
    advised: list[Change] = []
    earlier, later = _Cursor(before), _Cursor(after)
    for start, end in pairwise(edges):
        was, becomes = earlier.at(start), later.at(start)
        if becomes is None:
            if was is not None:
                _append(gone, Unmap(start, end))
        elif was is None or was.identity() != becomes.identity():
            _append(come, Map(becomes.piece(start, end)))
        else:
            if was.protection != becomes.protection:
                _append(protected, Protect(start, end, becomes.protection))
            if was.flags != becomes.flags:
                _append(advised, Advise(start, end, was.flags, becomes.flags))
    return gone + come + protected + advised


class _Cursor:
    """Finds the area at ascending addresses."""

    def __init__(self, areas: Sequence[Area]) -> None:
        self._areas = areas
        self._next = 0

    def at(self, address: int) -> Area | None:
        while self._next < len(self._areas) and self._areas[self._next].end <= address:
            self._next += 1
        if self._next < len(self._areas) and self._areas[self._next].start <= address:
            return self._areas[self._next]
        return None


def _append(changes: list[Change], change: Change) -> None:
    """Append, or prolong the last one if it ends where this begins and says the same."""
    if changes:
        joined = _joined(changes[-1], change)
        if joined is not None:
            changes[-1] = joined
            return
    changes.append(change)


def _joined(left: Change, right: Change) -> Change | None:
    if isinstance(left, Map):
        if not isinstance(right, Map) or left.area.end != right.area.start:
            return None
        whole = replace(left.area, end=right.area.end)
        return Map(whole) if whole.piece(right.area.start, right.area.end) == right.area else None
    if isinstance(right, Map) or left.end != right.start:
        return None
    longer = replace(left, end=right.end)
    return longer if replace(longer, start=right.start) == right else None


def area_at(areas: Sequence[Area], address: int) -> Area | None:
    """The area that holds an address, if any."""
    at = bisect_left(areas, address + 1, key=lambda area: area.start) - 1
    return areas[at] if at >= 0 and address < areas[at].end else None
