"""What there is to know of a warm instance now, as the controller and a person see it."""

from __future__ import annotations

import time
from typing import Final

from agent.errors import KernelError, TraceeGone
from agent.kernel import procfs
from agent.warm.feed import Feed
from agent.warm.instance import WarmInstance
from agent.warm.native import Native
from agent.warm.subscriber import Subscriber
from transport.checkpoint import NOTHING, PAGE_BYTES
from transport.control import InstanceStatus, MirrorView, Pauses, Status

FOR_EVER_MS: Final = 1e12
"""The staleness of a mirror that holds nothing."""


def status_of(instance: WarmInstance) -> Status:
    """Everything that is known of the instance."""
    now_ns = time.time_ns()
    feed = instance.offering.feed if instance.offering is not None else None
    intake = instance.following.intake if instance.following is not None else None
    mirrors = tuple(_mirror_view(feed, one, now_ns) for one in feed.subscribers) if feed is not None else ()
    nearest = min(mirrors, key=lambda mirror: mirror.staleness_ms, default=None)
    own_ms = FOR_EVER_MS
    if intake is not None and intake.reached is not None:
        own_ms = max(now_ns - intake.reached.captured_ns, 0) / 1e6
    staleness_ms = own_ms if feed is None else nearest.staleness_ms if nearest else FOR_EVER_MS
    pid, native = instance.program.pid, instance.program.native
    return Status(
        program=instance.definition.program.id,
        instance=instance.name,
        incarnation=instance.incarnation,
        role=instance.role,
        status=_word(instance, mirrors),
        reason=_reason(instance),
        token=instance.token,
        version=feed.version if feed is not None else intake.version if intake is not None else NOTHING,
        lag_checkpoints=nearest.lag_checkpoints if nearest else 0,
        lag_ms=staleness_ms,
        lag_bytes=nearest.lag_bytes if nearest else 0,
        staleness_ms=staleness_ms,
        pauses=Pauses(0, 0, 0) if native is None else _pauses(native),
        checkpoints=feed.marks.made if feed is not None else intake.applied if intake is not None else 0,
        abandoned=0 if native is None else native.abandoned,
        refused=instance.counters.by_reason(),
        bytes=feed.bytes if feed is not None else intake.bytes if intake is not None else 0,
        memory_bytes=_memory_bytes(pid),
        sync=None,
        mirrors=mirrors,
        connections=0,
        children=0,
        pid=pid,
    )


def _mirror_view(feed: Feed, one: Subscriber, now_ns: int) -> MirrorView:
    held = feed.marks.dated(one.reached)
    return MirrorView(
        instance=one.instance,
        incarnation=one.incarnation,
        state="waiting" if feed.version == NOTHING else "following" if one.counts else "full",
        version=one.reached,
        lag_checkpoints=feed.version.number - (one.reached.number if held else 0),
        lag_bytes=feed.bytes - (held.bytes if held else 0),
        staleness_ms=max(now_ns - held.mark.captured_ns, 0) / 1e6 if held else FOR_EVER_MS,
        sync=None,
    )


def _word(instance: WarmInstance, mirrors: tuple[MirrorView, ...]) -> InstanceStatus:
    if instance.fault:
        return "failed"
    if instance.role == "mirror":
        following = instance.following
        if following is None:
            return "starting"
        return "mirrored" if instance.program.pid and following.intake.reached is not None else "syncing"
    if not instance.program.pid:
        return "starting" if instance.status is None else "stopped" if instance.status == 0 else "failed"
    if instance.held or instance.program.is_still:
        return "fenced"
    return "mirrored" if any(mirror.state == "following" for mirror in mirrors) else "running"


def _reason(instance: WarmInstance) -> str:
    """The first thing that is wrong; the log has all of them."""
    if instance.fault or instance.trouble:
        return instance.fault or instance.trouble
    if instance.following is not None and (missing := instance.following.intake.missing()):
        return missing
    return "; ".join(f"{name}: {why}" for name, why in instance.program.refused.items())[:1000]


def _pauses(native: Native) -> Pauses:
    found = native.pauses
    return Pauses(int(found.quantile_us(0.5)), int(found.quantile_us(0.99)), int(found.max_us))


def _memory_bytes(pid: int) -> int:
    try:
        return int(procfs.read_text(pid, "statm").split()[1]) * PAGE_BYTES if pid else 0
    except (TraceeGone, KernelError):
        return 0
