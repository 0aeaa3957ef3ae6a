"""The descriptor table of a program: captured at a stop, made again in a shadow.

Records: `fd/<number>` says which description a number stands for, `ofd/<key>` what that description is; a key is
`<kind>:<lowest number>`. Numbers that share one description (dup(2), fork(2)) share it after a takeover, too. Each kind
of description is one file beside this one, entered in `kinds`; some keep records of their own (`pipe/`, `content/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cmp_to_key
from itertools import groupby
from typing import TYPE_CHECKING

from agent.batch import Batch
from agent.context.clocks import ProgramClocks
from agent.context.deleted import DeletedFileKind
from agent.context.epoll import EpollKind
from agent.context.eventfd import EventfdKind
from agent.context.files import FileKind
from agent.context.kind import Checked, Kind, MadeAhead, Place, Restore, RuleFor, Walk
from agent.context.look import Look, Watch
from agent.context.memfd import MemfdKind
from agent.context.network import Network
from agent.context.pipes import PipeKind
from agent.context.record import pack, unpack
from agent.context.shared_files import SharedFileKind
from agent.context.signalfd import SignalfdKind
from agent.context.tcp import TcpKind
from agent.context.timerfd import TimerfdKind
from agent.context.udp import UdpKind
from agent.context.unix import UnixKind
from agent.context.unsupported import UnsupportedKind
from agent.errors import CaptureError, KernelError, RestoreError
from agent.kernel.kcmp import order_of_files
from agent.reason import Reason
from agent.stopped import Stopped
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.shadow import Shadow

NUMBER, DESCRIPTION = "fd/", "ofd/"
_ALIKE_MAX = 16
"""Up to so many numbers that look alike are compared at every stop; more only when one of them looks different."""


@dataclass(frozen=True, slots=True)
class Number:
    """key: of the description that the number stands for."""

    key: str
    cloexec: bool


def kinds(network: Network) -> tuple[Kind, ...]:
    """All kinds, in the order in which they are asked whether a description is theirs."""
    return (
        TcpKind(network),
        UdpKind(network),
        UnixKind(network),
        PipeKind(),
        EpollKind(),
        EventfdKind(),
        TimerfdKind(),
        SignalfdKind(),
        MemfdKind(),
        DeletedFileKind(),
        SharedFileKind(),
        FileKind(),
        UnsupportedKind(network),
    )


@dataclass(slots=True)
class _Known:
    """A record and what it was made from."""

    look: Look
    table: int
    data: bytes


class DescriptorCapture:
    """Captures the descriptors of one program, cheaply where nothing changed.

    rule_for: what program.toml says about a regular file (see `agent.context.files`).
    """

    def __init__(self, pid: int, rule_for: RuleFor) -> None:
        self._rule_for = rule_for
        self._network = Network()
        self._kinds = kinds(self._network)
        self._watch = Watch(pid)
        self._clocks = ProgramClocks(pid)
        self._kind_of: dict[int, tuple[tuple[str, int, int], Kind]] = {}
        self._known: dict[str, _Known] = {}
        self._numbers: dict[tuple[str, bool], bytes] = {}
        self._sorted: dict[tuple[Look, ...], list[list[Look]]] = {}
        self._table: list[tuple[int, str, int]] = []
        self._tables = 0

    def close(self) -> None:
        """Give back the descriptors that are kept."""
        self._watch.close()
        self._network.close()
        for kind in self._kinds:
            if isinstance(kind, UnixKind):
                kind.close()

    def capture(self, stopped: Stopped) -> Records:
        """The records of all descriptors. Works for a dying program, too.

        Raises Unsupported for the first thing that can't be mirrored, CaptureError when the program is gone.
        """
        walk, descriptions = self._walk(stopped)
        records: Records = {}
        try:
            for look, kind in descriptions:
                key = walk.keys[look.number]
                records[DESCRIPTION + key] = self._record(key, look, kind, walk)
        except (KernelError, OSError) as error:
            raise CaptureError(f"descriptors of process {stopped.pid}: {error}") from error
        for number, look in walk.looks.items():
            records[f"{NUMBER}{number}"] = self._number(walk.keys[number], look.cloexec)
        records.update(walk.extra)
        self._known = {key: known for key, known in self._known.items() if DESCRIPTION + key in records}
        return records

    def reasons_against(self, stopped: Stopped) -> list[Reason]:
        """Everything of the table that can't be mirrored, or that a takeover loses."""
        walk, descriptions = self._walk(stopped)
        return [reason for look, kind in descriptions for reason in kind.reasons(look, walk)]

    # ---------------------------------------------------------------- inside

    def _walk(self, stopped: Stopped) -> tuple[Walk, list[tuple[Look, Kind]]]:
        """The table as it is now, and each description by its lowest number."""
        looks = self._watch.look()
        walk = Walk(
            pid=stopped.pid,
            pidfd=stopped.pidfd,
            rule_for=self._rule_for,
            clocks=self._clocks,
            previous=stopped.previous,
            looks={look.number: look for look in looks},
            keys={},
            reread=self._watch.reread,
            dying=stopped.dying,
        )
        descriptions: list[tuple[Look, Kind]] = []
        for same in self._descriptions(stopped.pid, looks):
            first = same[0]
            kind = self._kind(first, walk)
            key = f"{kind.name}:{first.number}"
            for look in same:
                walk.keys[look.number] = key
            descriptions.append((first, kind))
        descriptions.sort(key=lambda description: description[0].number)
        table = [(look.number, walk.keys[look.number], look.inode) for look in looks]
        if table != self._table:
            self._table = table
            self._tables += 1
        return walk, descriptions

    def _descriptions(self, pid: int, looks: list[Look]) -> list[list[Look]]:
        """The numbers of each description, ascending."""
        alike: dict[tuple[str, int, int, int], list[Look]] = {}
        for look in looks:
            # Not the details: a running timer's differ between two looks at the same description.
            alike.setdefault((look.link, look.flags, look.position, look.mount), []).append(look)
        found: list[list[Look]] = []
        sortings: dict[tuple[Look, ...], list[list[Look]]] = {}
        for group in alike.values():
            if len(group) == 1 or group[0].link.startswith("socket:"):
                found.append(group)
            elif len(group) <= _ALIKE_MAX:
                found.extend(_same(pid, group))
            else:
                known = tuple(group)
                sortings[known] = self._sorted.get(known) or _same(pid, group)
                found.extend(sortings[known])
        self._sorted = sortings
        return found

    def _kind(self, look: Look, walk: Walk) -> Kind:
        identity = (look.link, look.access, look.mount)
        known = self._kind_of.get(look.number)
        if known is not None and known[0] == identity:
            return known[1]
        kind = next(kind for kind in self._kinds if kind.owns(look, walk))
        self._kind_of[look.number] = identity, kind
        return kind

    def _record(self, key: str, look: Look, kind: Kind, walk: Walk) -> bytes:
        if kind.depends == "content":
            return kind.capture(look, walk)
        known = self._known.get(key)
        if known is not None and known.look is look and (kind.depends == "look" or known.table == self._tables):
            return known.data
        data = kind.capture(look, walk)
        self._known[key] = _Known(look, self._tables, data)
        return data

    def _number(self, key: str, cloexec: bool) -> bytes:
        known = self._numbers.get((key, cloexec))
        if known is None:
            known = self._numbers[key, cloexec] = pack(Number(key, cloexec))
        return known


def _same(pid: int, group: list[Look]) -> list[list[Look]]:
    """Split numbers that look alike by the description that they stand for."""

    def order(first: Look, second: Look) -> int:
        return order_of_files(pid, first.number, second.number)

    in_order = sorted(group, key=cmp_to_key(order))
    split = [list(same) for _, same in groupby(in_order, key=cmp_to_key(order))]
    return [sorted(same, key=lambda look: look.number) for same in split]


_KINDS = {kind.name: kind for kind in kinds(Network())}
_MADE_AHEAD = {name: kind for name, kind in _KINDS.items() if isinstance(kind, MadeAhead)}
_CHECKED = {name: kind for name, kind in _KINDS.items() if isinstance(kind, Checked)}


def prepare(shadow: Shadow, records: Records) -> None:
    """Ahead of a takeover: room for all numbers, a check that what will be opened is there, and a rehearsal.

    Raises RestoreError naming what is missing on this node, or what can't be restored.
    """
    places = _places(records)
    shadow.make_room_for_descriptors(max((place.number for key in places for place in places[key]), default=0))
    root = f"/proc/{shadow.pid}/root"
    for key in places:
        kind = _CHECKED.get(key.partition(":")[0])
        data = records[DESCRIPTION + key]
        if kind is not None and shadow.changed(DESCRIPTION + key, data):
            kind.check(key, data, root)
    if shadow.changed(NUMBER, tuple(places)):
        # What is wrong shows now, and a takeover finds everything warm.
        _add_rows(_restore(shadow, records, Batch(), rehearsal=True))


def activate(shadow: Shadow, records: Records, batch: Batch) -> None:
    """Add the rows that make the table; TCP and UDP sockets are made empty (`agent.restored_sockets`).

    Content of files without a name is written at once. Raises RestoreError.
    """
    restore = _restore(shadow, records, batch)
    for key in restore.places:
        maker = _MADE_AHEAD.get(key.partition(":")[0])
        if maker is not None:
            maker.make_ahead(key, records[DESCRIPTION + key], restore)
    _add_rows(restore)


def _restore(shadow: Shadow, records: Records, batch: Batch, *, rehearsal: bool = False) -> Restore:
    return Restore(
        pid=shadow.pid,
        records=records,
        places=_places(records),
        table=shadow.table.copy() if rehearsal else shadow.table,
        batch=batch,
        new_batch=shadow.batch,
        clocks=shadow.clocks,
        shared_memory=shadow.shared_object,
        rehearsal=rehearsal,
    )


def _add_rows(restore: Restore) -> None:
    for key in restore.places:
        if key not in restore.opened:
            _kind_of(key).restore(key, restore.records[DESCRIPTION + key], restore)
    for places in restore.places.values():
        for place in places[1:]:
            restore.table.take(place.number)
            restore.table.duplicate(restore.batch, places[0].number, place.number, close_on_exec=place.cloexec)
    for add_rows in restore.later:
        add_rows()
    EpollKind().fill(restore)
    for spare in restore.kept:
        restore.table.close(restore.batch, spare)


def finish(shadow: Shadow, records: Records, batch: Batch) -> None:
    """After the address was claimed: nothing is left to do for descriptors other than sockets."""


def _kind_of(key: str) -> Kind:
    kind = _KINDS.get(key.partition(":")[0])
    if kind is None:
        raise RestoreError(f"record {key} is of no kind that this version knows")
    return kind


def _places(records: Records) -> dict[str, list[Place]]:
    """The numbers of each description, ascending; descriptions in the order of their lowest numbers.

    Raises RestoreError for a number whose description is missing.
    """
    numbers = sorted(int(key[len(NUMBER) :]) for key in records if key.startswith(NUMBER))
    places: dict[str, list[Place]] = {}
    for number in numbers:
        record = unpack(Number, records[f"{NUMBER}{number}"], f"{NUMBER}{number}")
        if DESCRIPTION + record.key not in records:
            raise RestoreError(f"descriptor {number} of the program has no record {DESCRIPTION}{record.key}")
        places.setdefault(record.key, []).append(Place(number, record.cloexec))
    return places
