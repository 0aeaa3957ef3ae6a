"""What there is to know of an instance now, as the controller and a person see it.

A snapshot is read in the tracer thread, where the values live, and turned into a `Status` in the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agent.context.by_kind import records_of_kind
from agent.context.record import unpack
from agent.context.tcp import BUSY, CONNECTED, HALF_CLOSED, Tcp
from agent.errors import KernelError, TraceeGone
from agent.instance import Instance
from agent.kernel import procfs
from agent.mirror.follower import Follower
from agent.primary.publication import Dated
from agent.primary.serving import Serving
from transport.checkpoint import NOTHING, PAGE_BYTES, Records, Version
from transport.control import InstanceStatus, MirrorView, Pauses, Status, Sync
from transport.pubsub import Subscriber

FOR_EVER_MS = 1e12
"""The staleness of a mirror that holds nothing."""


@dataclass(slots=True)
class Snapshot:
    """What lives in the tracer thread, copied there."""

    pid: int = 0
    version: Version = NOTHING
    records: Records = field(default_factory=dict)
    pauses: Pauses = field(default_factory=lambda: Pauses(0, 0, 0))
    checkpoints: int = 0
    abandoned: int = 0
    bytes: int = 0
    trouble: str = ""
    ended: bool = False
    held: bool = False
    dated: list[Dated] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)
    transfers: dict[int, tuple[int, int]] = field(default_factory=dict)
    captured_ns: int = 0
    sync: Sync | None = None


async def status_of(instance: Instance) -> Status:
    """Everything that is known of the instance."""
    snapshot = await instance.around.tracer.call(_reader(instance))
    now_ns = time.time_ns()
    mirrors = tuple(_mirror_view(snapshot, one, now_ns) for one in snapshot.subscribers)
    nearest = min(mirrors, key=lambda mirror: mirror.staleness_ms, default=None)
    own_ms = max(now_ns - snapshot.captured_ns, 0) / 1e6 if snapshot.captured_ns else FOR_EVER_MS
    staleness_ms = own_ms if instance.serving is None else nearest.staleness_ms if nearest else FOR_EVER_MS
    return Status(
        program=instance.definition.program.id,
        instance=instance.name,
        incarnation=instance.incarnation,
        role=instance.role,
        status=_word(instance, snapshot, mirrors),
        reason=instance.fault or snapshot.trouble,
        token=instance.token,
        version=snapshot.version,
        lag_checkpoints=nearest.lag_checkpoints if nearest else 0,
        lag_ms=staleness_ms,
        lag_bytes=nearest.lag_bytes if nearest else 0,
        staleness_ms=staleness_ms,
        pauses=snapshot.pauses,
        checkpoints=snapshot.checkpoints,
        abandoned=snapshot.abandoned,
        refused=instance.counters.by_reason(),
        bytes=snapshot.bytes,
        memory_bytes=_memory_bytes(snapshot.pid),
        sync=snapshot.sync,
        mirrors=mirrors,
        connections=_connections(snapshot.records),
        children=_children(snapshot.pid),
        pid=snapshot.pid,
    )


def _reader(instance: Instance) -> Callable[[], Snapshot]:
    def read() -> Snapshot:
        if instance.serving is not None:
            return _of_primary(instance.serving)
        return _of_mirror(instance.follower) if instance.follower is not None else Snapshot()

    return read


def _of_primary(serving: Serving) -> Snapshot:
    checkpointer, publication = serving.checkpointer, serving.publication
    pauses = checkpointer.pauses
    return Snapshot(
        pid=0 if serving.ended else checkpointer.tracee.pid,
        version=publication.encoder.version,
        records=publication.encoder.history.records,
        pauses=Pauses(int(pauses.quantile_us(0.5)), int(pauses.quantile_us(0.99)), int(pauses.max_us)),
        checkpoints=checkpointer.taken,
        abandoned=serving.primary.abandoned,
        bytes=publication.bytes_encoded,
        trouble=serving.trouble,
        ended=serving.ended or serving.primary.ending is not None,
        held=serving.held,
        dated=list(publication.dated),
        subscribers=list(publication.publisher.subscribers),
        transfers=publication.transfers(),
    )


def _of_mirror(follower: Follower) -> Snapshot:
    double, header, progress = follower.double, follower.held.header, follower.progress
    sync = None
    if progress.total and not progress.done:
        elapsed_s = max(time.monotonic() - progress.started_s, 1e-3)
        done = progress.pages * PAGE_BYTES
        sync = Sync(done, max(progress.total, progress.pages) * PAGE_BYTES, int(done / elapsed_s))
    return Snapshot(
        pid=double.pid if double is not None else 0,
        version=follower.version,
        records=follower.held.records,
        checkpoints=follower.applied,
        bytes=follower.bytes,
        captured_ns=header.captured_ns if header is not None and follower.version != NOTHING else 0,
        sync=sync,
    )


def _mirror_view(snapshot: Snapshot, one: Subscriber, now_ns: int) -> MirrorView:
    held = next((dated for dated in reversed(snapshot.dated) if dated.version == one.acked), None)
    sync = None
    if one.subscriber in snapshot.transfers:
        sent, total = snapshot.transfers[one.subscriber]
        sync = Sync(sent * PAGE_BYTES, total * PAGE_BYTES, 0)
    return MirrorView(
        instance=one.instance,
        incarnation=one.incarnation,
        state=one.state,
        version=one.acked,
        lag_checkpoints=snapshot.version.number - one.acked.number if held else snapshot.version.number,
        lag_bytes=snapshot.bytes - held.bytes if held else snapshot.bytes,
        staleness_ms=(now_ns - held.captured_ns) / 1e6 if held else FOR_EVER_MS,
        sync=sync,
    )


def is_mirrored(mirrors: Iterable[MirrorView]) -> bool:
    """Whether some mirror holds a checkpoint of this primary, and gets those that come.

    One that waits for the first checkpoint of a primary, or of a new agent of it, holds only what it held before.
    """
    return any(mirror.state == "following" and mirror.version != NOTHING for mirror in mirrors)


def _word(instance: Instance, snapshot: Snapshot, mirrors: Sequence[MirrorView]) -> InstanceStatus:
    if instance.fault:
        return "failed"
    if instance.serving is None:
        return "starting" if instance.follower is None else "mirrored" if snapshot.captured_ns else "syncing"
    if snapshot.ended:
        return "stopped" if instance.ended is None or instance.ended.status == 0 else "failed"
    if snapshot.held:
        return "fenced"
    return "mirrored" if is_mirrored(mirrors) else "running"


def _connections(records: Records) -> int:
    roles = (unpack(Tcp, data).role for _, data in records_of_kind(records, "tcp"))
    return sum(1 for role in roles if role in (CONNECTED, HALF_CLOSED, BUSY))


def _memory_bytes(pid: int) -> int:
    try:
        return int(procfs.read_text(pid, "statm").split()[1]) * PAGE_BYTES if pid else 0
    except (TraceeGone, KernelError):
        return 0


def _children(pid: int) -> int:
    try:
        return len(procfs.children(pid)) if pid else 0
    except (TraceeGone, KernelError):
        return 0
