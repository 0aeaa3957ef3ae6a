"""What a kind of descriptor is, what it may ask during a capture, and what it gets at a takeover.

A kind of resource is one file with one `Kind`, entered in `agent.context.descriptors`. Its records stand under
`ofd/<kind>:<lowest number>`, one for each open file description (open(2)), however many numbers it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from agent.context.clocks import ProgramClocks
from agent.context.layout import Area
from agent.context.look import Look
from agent.errors import RestoreError, Unsupported
from agent.kernel.pidfd import get_descriptor
from agent.mirror.batch import Batch, Row
from agent.mirror.fdtable import DescriptorTable
from agent.reason import Reason
from transport.checkpoint import Records

RuleFor = Callable[[str], str | None]
"""Path of a regular file -> "shared", "local", "discard", or None where program.toml has no rule for it."""

Depends = Literal["look", "table", "content"]
"""When a record must be made anew: when its `Look` changed; or which numbers are open changed; or always."""


@dataclass(slots=True)
class Walk:
    """One capture of a stopped program's table.

    looks: by number, ascending. keys: of the description behind each number. clocks: the program's. previous: the
    records of the checkpoint before. dying: every thread stands at its end. exact: it is the last checkpoint, in which
    everything must be as it is, whatever that takes. extra: records beside the descriptions' own, filled by the kinds.
    """

    pid: int
    pidfd: int
    rule_for: RuleFor
    clocks: ProgramClocks
    previous: Records
    looks: dict[int, Look]
    keys: dict[int, str]
    reread: Callable[[int], Look]
    dying: bool = False
    exact: bool = False
    extra: Records = field(default_factory=dict)
    maps: bytes | None = None
    sockets: dict[int, str] | None = None

    def socket_keys(self) -> dict[int, str]:
        """The keys of all sockets by inode."""
        if self.sockets is None:
            self.sockets = {
                look.inode: self.keys[number] for number, look in self.looks.items() if look.link.startswith("socket:")
            }
        return self.sockets

    def mapped_shared(self, status: os.stat_result) -> tuple[tuple[int, int], ...]:
        """The byte ranges of a file that the program has mapped shared, ascending, joined."""
        if self.maps is None:
            with open(f"/proc/{self.pid}/maps", "rb") as file:
                self.maps = file.read()
        found = []
        identity = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x} {status.st_ino} ".encode()
        for line in self.maps.splitlines():
            if identity in line:
                addresses, permissions, offset = line.split(None, 3)[:3]
                if permissions.endswith(b"s"):
                    start, end = (int(address, 16) for address in addresses.split(b"-"))
                    found.append((int(offset, 16), int(offset, 16) + end - start))
        return _joined(sorted(found))

    @contextmanager
    def duplicate(self, number: int) -> Iterator[int]:
        """The program's own description behind `number`, held only within the block. Do not change its flags."""
        descriptor = get_descriptor(self.pidfd, number)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def path(self, number: int) -> str:
        """A path by which the agent can open the same file anew."""
        return f"/proc/{self.pid}/fd/{number}"

    def where(self, number: int) -> str:
        """The place, for a `Reason`."""
        return f"descriptor {number} of process {self.pid}"


class Kind(Protocol):
    """One kind of open file description."""

    name: str
    depends: Depends

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether this description is of this kind; kinds are asked in the order in which they are entered."""

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Its record; `look` is that of its lowest number. Raises Unsupported where `reasons` has a refusal."""

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Why it can't be mirrored, or what of it is lost in a takeover."""

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Add the rows that make it again, unless it came with an earlier one (the other end of a pipe)."""


@runtime_checkable
class ReadTogether(Protocol):
    """A kind whose descriptions are read all at once at a stop, and made into records after it."""

    def read(self, looks: Sequence[Look], walk: Walk) -> Callable[[], Sequence[bytes]]:
        """Read all descriptions of this kind; what it gives makes their records, in the same order, at any time before
        the next stop. Raises Unsupported where `reasons` has a refusal."""


@runtime_checkable
class MadeAhead(Protocol):
    """A kind with content that is written outside of the batch, before it runs."""

    def make_ahead(self, key: str, data: bytes, restore: Restore) -> None:
        """Make what the descriptions will be opened from, and fill it."""


@runtime_checkable
class Checked(Protocol):
    """A kind that needs something which must be on the mirror's node."""

    def check(self, key: str, data: bytes, root: str) -> None:
        """Whether it is there, ahead of a takeover; `root`: where the shadow's files start. Raises RestoreError."""


@dataclass(frozen=True, slots=True)
class Place:
    """One number of a description."""

    number: int
    cloexec: bool


@dataclass(slots=True)
class Restore:
    """One takeover's table in the making.

    pid: the shadow's host pid. places: the numbers of each description by key, ascending. opened: keys that are placed.
    batch: takes the rows. new_batch: for what can't wait until that one runs. shared_memory: (device, inode) of the
    original -> the shadow's own descriptor of memory that the program has mapped. layout: what is mapped. inner_files:
    as shared_memory, for files that are made during this takeover; `kept` of these are closed at its end. sealed:
    memfds whose seals are set. later: what adds rows once everything stands at its number. rehearsal: the rows will
    never run.
    """

    pid: int
    records: Records
    places: dict[str, list[Place]]
    table: DescriptorTable
    batch: Batch
    new_batch: Callable[[], Batch]
    clocks: ProgramClocks
    shared_memory: Callable[[int, int], int | None]
    layout: Sequence[Area]
    opened: set[str] = field(default_factory=set)
    inner_files: dict[tuple[int, int], int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    sealed: set[tuple[int, int]] = field(default_factory=set)
    later: list[Callable[[], None]] = field(default_factory=list)
    rehearsal: bool = False

    def inner_file(self, identity: tuple[int, int]) -> int:
        """The shadow's number of what was made ahead for the original's file (device, inode)."""
        if self.rehearsal:
            return 0
        return self.inner_files[identity]

    def keep_until_end(self, identity: tuple[int, int], spare: int) -> None:
        """The shadow's number `spare` is the file (device, inode) of the original, until all descriptions are open."""
        self.inner_files[identity] = spare
        self.kept.append(spare)

    def own_path(self, number: int) -> str:
        """A path by which the agent can open what stands at a number of the shadow."""
        return f"/proc/{self.pid}/fd/{number}"

    def records_of(self, kind: str) -> list[tuple[str, bytes]]:
        """Key and record of every description of a kind."""
        start = f"{kind}:"
        return [(key, self.records["ofd/" + key]) for key in self.places if key.startswith(start)]

    def number(self, key: str) -> int:
        """The lowest number of a description."""
        return self.places[key][0].number

    def place(self, key: str, row: Row, batch: Batch | None = None) -> int:
        """Move what `row`, the last one, has just opened to the description's lowest number; gives that number."""
        first = self.places[key][0]
        self.table.place(batch or self.batch, row, first.number, close_on_exec=first.cloexec)
        self.opened.add(key)
        return first.number

    def place_parked(self, key: str, parked: int) -> int:
        """Like `place`, for a description that stands at a spare number; the spare number is given back."""
        first = self.places[key][0]
        self.table.take(first.number)
        self.table.duplicate(self.batch, parked, first.number, close_on_exec=first.cloexec)
        self.table.close(self.batch, parked)
        self.opened.add(key)
        return first.number

    def path(self, path: str) -> str:
        """A path by which the agent sees what the shadow sees at `path`."""
        if not path.startswith("/"):
            raise RestoreError(f"{path} is no absolute path")
        return f"/proc/{self.pid}/root{path}"


def _joined(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def refuse(reason: Reason) -> Unsupported:
    """The error that a capture raises for a reason."""
    return Unsupported(str(reason), hint=reason.remedy)


def text(value: str) -> bytes:
    """A path as a system call takes it."""
    return os.fsencode(value) + b"\0"
