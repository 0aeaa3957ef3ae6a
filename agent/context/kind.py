"""What a kind of descriptor is, what it may ask during a capture, and what it gets at a takeover.

A kind of resource is one file with one `Kind`, entered in `agent.context.descriptors`. Its records stand under
`ofd/<kind>:<lowest number>`, one for each open file description (open(2)), however many numbers it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.batch import Batch, Row
from agent.context.clocks import ProgramClocks
from agent.context.look import Look
from agent.errors import RestoreError, Unsupported
from agent.fdtable import DescriptorTable
from agent.kernel.pidfd import get_descriptor
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
    records of the checkpoint before. extra: records beside the descriptions' own, filled by the kinds.
    """

    pid: int
    pidfd: int
    rule_for: RuleFor
    clocks: ProgramClocks
    previous: Records
    looks: dict[int, Look]
    keys: dict[int, str]
    reread: Callable[[int], Look]
    extra: Records = field(default_factory=dict)

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
        """Whether this description is of this kind."""

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Its record; `look` is that of its lowest number. Raises Unsupported where `reasons` has a refusal."""

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Why it can't be mirrored, or what of it is lost in a takeover."""

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Add the rows that make it again, unless it came with an earlier one (the other end of a pipe)."""


@dataclass(frozen=True, slots=True)
class Place:
    """One number of a description."""

    number: int
    cloexec: bool


@dataclass(slots=True)
class Restore:
    """One takeover's table in the making.

    pid: the shadow's host pid. places: the numbers of each description by key, ascending. opened: keys that are placed.
    batch: takes the rows. now: runs rows at once (for content that is too large for a batch).
    shared_memory: the shadow's own descriptors of memfds that the program has mapped, by (device, inode) of the original.
    """

    pid: int
    records: Records
    places: dict[str, list[Place]]
    table: DescriptorTable
    batch: Batch
    new_batch: Callable[[], Batch]
    clocks: ProgramClocks
    shared_memory: Callable[[int, int], int | None]
    opened: set[str] = field(default_factory=set)

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


def refuse(reason: Reason) -> Unsupported:
    """The error that a capture raises for a reason."""
    return Unsupported(str(reason), hint=reason.remedy)


def text(value: str) -> bytes:
    """A path as a system call takes it."""
    return os.fsencode(value) + b"\0"
