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
from agent.context.look import Look, Shape, Watch
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
class _Description:
    """One open file description of a structure. look, data: the record and what it was made from."""

    number: int
    kind: Kind
    key: str
    look: Look | None = None
    data: bytes = b""


@dataclass(slots=True)
class _Structure:
    """Which numbers are open and what they stand for: valid as long as the shapes are the same, and the groups.

    groups: numbers that look alike, and how they split into descriptions. keys: of each number. numbers: the records of
    the numbers.
    """

    shapes: list[Shape]
    groups: list[tuple[list[Look], list[list[int]]]]
    descriptions: list[_Description]
    keys: dict[int, str]
    numbers: Records


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
        self._structure: _Structure | None = None

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
        before = self._structure
        structure, walk = self._walk(stopped)
        records = structure.numbers.copy()
        try:
            for one in structure.descriptions:
                look = walk.looks[one.number]
                depends = one.kind.depends
                if look is not one.look or depends == "content" or (depends == "table" and structure is not before):
                    one.data = one.kind.capture(look, walk)
                    one.look = look
                records[DESCRIPTION + one.key] = one.data
        except (KernelError, OSError) as error:
            raise CaptureError(f"descriptors of process {stopped.pid}: {error}") from error
        records.update(walk.extra)
        return records

    def reasons_against(self, stopped: Stopped) -> list[Reason]:
        """Everything of the table that can't be mirrored, or that a takeover loses."""
        structure, walk = self._walk(stopped)
        return [reason for one in structure.descriptions for reason in one.kind.reasons(walk.looks[one.number], walk)]

    # ---------------------------------------------------------------- inside

    def _walk(self, stopped: Stopped) -> tuple[_Structure, Walk]:
        """The table as it is now."""
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
            exact=stopped.exact,
        )
        shapes = [look.shape for look in looks]
        structure = self._structure
        if structure is None or shapes != structure.shapes or not _still_split(stopped.pid, structure, walk):
            structure = self._structure = self._structured(shapes, walk)
        walk.keys = structure.keys
        return structure, walk

    def _structured(self, shapes: list[Shape], walk: Walk) -> _Structure:
        """Find the descriptions behind the numbers; what is known of those that are still there is kept."""
        alike: dict[tuple[str, int, int], list[Look]] = {}
        for look in walk.looks.values():
            alike.setdefault((look.link, look.flags, look.mount), []).append(look)
        found: list[list[int]] = []
        groups: list[tuple[list[Look], list[list[int]]]] = []
        for group in alike.values():
            numbers = [look.number for look in group]
            if len(group) == 1 or group[0].link.startswith("socket:"):  # a socket's inode is its description's own
                found.append(numbers)
            else:
                groups.append((group, _split(walk.pid, numbers)))
                found.extend(groups[-1][1])
        known = {one.key: one for one in self._structure.descriptions} if self._structure is not None else {}
        descriptions: list[_Description] = []
        for numbers in sorted(found):
            kind = next(kind for kind in self._kinds if kind.owns(walk.looks[numbers[0]], walk))
            key = f"{kind.name}:{numbers[0]}"
            descriptions.append(known.get(key) or _Description(numbers[0], kind, key))
            walk.keys.update(dict.fromkeys(numbers, key))
        records = {
            f"{NUMBER}{number}": pack(Number(walk.keys[number], look.cloexec)) for number, look in walk.looks.items()
        }
        return _Structure(shapes, groups, descriptions, walk.keys, records)


def _still_split(pid: int, structure: _Structure, walk: Walk) -> bool:
    """Whether numbers that look alike stand for the same descriptions as before: dup2(2) leaves no other trace.

    Small groups are asked about at every stop, large ones only when one of them looks different.
    """
    for position, (group, parts) in enumerate(structure.groups):
        now = [walk.looks[look.number] for look in group]
        if len(group) > _ALIKE_MAX and now == group:
            continue
        if _split(pid, [look.number for look in group]) != parts:
            return False
        structure.groups[position] = (now, parts)
    return True


def _split(pid: int, numbers: list[int]) -> list[list[int]]:
    """Split ascending numbers that look alike by the description that they stand for."""

    def order(first: int, second: int) -> int:
        return order_of_files(pid, first, second)

    by_file = cmp_to_key(order)
    in_order = sorted(numbers, key=by_file)
    return sorted(sorted(same) for _, same in groupby(in_order, key=by_file))


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
        layout=shadow.layout,
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
