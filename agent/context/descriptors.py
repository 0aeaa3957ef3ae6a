"""The descriptor table of a program: captured at a stop, made again in a shadow.

Records: `fd/<number>` says which description a number stands for, `ofd/<key>` what that description is; a key is
`<kind>:<lowest number>`. Numbers that share one description (dup(2), fork(2)) share it after a takeover, too. Each kind
of description is one file beside this one, entered in `kinds`; some keep records of their own (`pipe/`, `content/`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.context.clocks import ProgramClocks
from agent.context.deleted import DeletedFileKind
from agent.context.epoll import EpollKind
from agent.context.eventfd import EventfdKind
from agent.context.files import FileKind
from agent.context.kind import Checked, Kind, MadeAhead, Place, Restore, RuleFor, Walk
from agent.context.look import Watch
from agent.context.memfd import MemfdKind
from agent.context.network import Network
from agent.context.pipes import PipeKind
from agent.context.record import unpack
from agent.context.shared_files import SharedFileKind
from agent.context.signalfd import SignalfdKind
from agent.context.table import DESCRIPTION, NUMBER, Number, Table
from agent.context.tcp import TcpKind
from agent.context.timerfd import TimerfdKind
from agent.context.udp import UdpKind
from agent.context.unix import UnixKind
from agent.context.unsupported import UnsupportedKind
from agent.errors import CaptureError, KernelError, RestoreError
from agent.mirror.batch import Batch
from agent.reason import Reason
from agent.scout.scout import Scout
from agent.tracing.stopped import Stopped
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.mirror.shadow import Shadow


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


class DescriptorCapture:
    """Captures the descriptors of one program, cheaply where nothing changed.

    rule_for: what program.toml says about a regular file (see `agent.context.files`).
    """

    def __init__(self, pid: int, rule_for: RuleFor, scout: Scout | None = None) -> None:
        self._rule_for = rule_for
        self._network = Network(scout)
        self._kinds = kinds(self._network)
        self._watch = Watch(pid)
        self._clocks = ProgramClocks(pid)
        self._table: Table | None = None

    @property
    def connections(self) -> Sequence[bytes]:
        """See `Network`."""
        return self._network.connections

    def close(self) -> None:
        """Give back the descriptors that are kept."""
        self._watch.close()
        self._network.close()
        for kind in self._kinds:
            if isinstance(kind, UnixKind):
                kind.close()

    def capture(self, stopped: Stopped) -> Records:
        """The records of all descriptors; raises as `read`."""
        return self.read(stopped)()

    def read(self, stopped: Stopped) -> Callable[[], Records]:
        """Read all descriptors at a stop. What it gives makes the records, before the next stop.

        Works for a dying program, too. Raises Unsupported for the first thing that can't be mirrored, CaptureError when
        the program is gone.
        """
        try:
            table, walk = self._walk(stopped)
            try:
                tell = table.read(walk)
            except (KernelError, OSError) as error:
                raise CaptureError(f"descriptors of process {stopped.pid}: {error}") from error
        except BaseException:
            # What had changed is not known any more.
            self._table = None
            raise
        return tell

    def learn(self, stopped: Stopped) -> bool:
        """Get to know a part of what is open, so that `read` finds less that is new; False when nothing is.

        Raises as `read`.
        """
        if self._table is None:
            self._walk(stopped)
            return True
        _, walk = self._walk(stopped)
        try:
            return self._network.learn(walk)
        except (KernelError, OSError) as error:
            raise CaptureError(f"descriptors of process {stopped.pid}: {error}") from error

    def reasons_against(self, stopped: Stopped) -> list[Reason]:
        """Everything of the table that can't be mirrored, or that a takeover loses."""
        table, walk = self._walk(stopped)
        return [reason for one in table.descriptions for reason in one.kind.reasons(walk.looks[one.number], walk)]

    def _walk(self, stopped: Stopped) -> tuple[Table, Walk]:
        """The table as it is now."""
        looks = self._watch.look()
        walk = Walk(
            pid=stopped.pid,
            pidfd=stopped.pidfd,
            rule_for=self._rule_for,
            clocks=self._clocks,
            previous=stopped.previous,
            looks=looks,
            keys={},
            reread=self._watch.reread,
            dying=stopped.dying,
            exact=stopped.exact,
        )
        if self._table is None or not self._table.follow(walk, self._watch.changed):
            self._table = Table(self._kinds, walk, self._table, self._watch.changed)
        walk.keys = self._table.keys
        return self._table, walk


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
    """Add the rows that make the table; TCP and UDP sockets are made empty (`agent.network.restored_sockets`).

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
