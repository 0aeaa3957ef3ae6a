"""A mirror's shadow becomes the program: all rooms in the order of `activation`, and the tracee that comes of it.

Belongs to the tracer thread, which stays the tracer of the program.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from agent.context import descriptors
from agent.context.clocks import CLOCK_MONOTONIC, ProgramClocks
from agent.kernel import pidfd
from agent.mirror import activation
from agent.mirror.activation import Timeline, TimelineStep
from agent.mirror.batch import Batch
from agent.mirror.shadow import Shadow
from agent.network.address import ServiceAddress
from agent.network.connections import Connection, Expected
from agent.network.restored_sockets import RestoredSockets
from agent.tracing.tracee import OPTIONS, Tracee
from transport.checkpoint import Records


@dataclass(frozen=True, slots=True)
class Takeover:
    """What came of it. unfinished: connections that the checkpoint has, but not so that they can go on. failed: those
    that could not be made again, with the reasons."""

    tracee: Tracee
    timeline: list[TimelineStep]
    restored: list[Expected]
    unfinished: list[Connection]
    failed: list[str]


class _Rooms:
    """See `activation.DescriptorRooms`: descriptors by rows, network sockets from outside."""

    def __init__(self, sockets: RestoredSockets) -> None:
        self._sockets = sockets

    def activate(self, shadow: Shadow, records: Records, batch: Batch) -> None:
        """See `activation.DescriptorRooms`."""
        descriptors.activate(shadow, records, batch)

    def finish(self, shadow: Shadow, records: Records, batch: Batch) -> None:
        """See `activation.DescriptorRooms`."""
        descriptors.finish(shadow, records, batch)
        self._sockets.finish()


@dataclass(frozen=True, slots=True)
class Readied:
    """A shadow that can become the program at once. handle: a pidfd of it."""

    shadow: Shadow
    records: Records
    handle: int
    sockets: RestoredSockets
    timeline: Timeline

    def abandon(self) -> None:
        """Give it up: its connections end without a word when the shadow is destroyed, which must come next."""
        self.sockets.abandon()
        os.close(self.handle)


def make_ready(shadow: Shadow, records: Records, *, exact: bool) -> Readied:
    """Give the shadow everything that the program had. No client can see it, and no checkpoint can be applied any more.

    exact: `records` are of the program's very last moment. Raises RestoreError, KernelError, TraceeGone; the shadow
    must be destroyed then.
    """
    handle = pidfd.open_pidfd(shadow.pid)
    sockets = RestoredSockets(handle, exact=exact)
    try:
        timeline = activation.make_ready(shadow, records, _Rooms(sockets))
        sockets.configure(records)
        timeline.done("sockets")
    except BaseException:
        sockets.abandon()
        os.close(handle)
        raise
    return Readied(shadow, records, handle, sockets, timeline)


def go_on(
    readied: Readied,
    address: ServiceAddress | None,
    *,
    announced: Callable[[set[Connection]], None] | None = None,
) -> Takeover:
    """Let the shadow go on as the program, which runs and is traced when this returns.

    announced: called with the connections that go on, as soon as clients know where the address is. Raises as
    `make_ready`, and then the address is not here.
    """
    shadow, sockets = readied.shadow, readied.sockets

    def claim() -> None:
        if address is not None:
            address.claim()

    def announce() -> None:
        if address is not None:
            address.announce()
        if announced is not None:
            announced({one.connection for one in sockets.connections})

    try:
        timeline = activation.go_on(
            shadow,
            readied.records,
            _Rooms(sockets),
            readied.timeline,
            claim_address=claim,
            announce=announce,
            options=OPTIONS,
        )
    except BaseException:
        readied.abandon()
        if address is not None:
            address.drop()
        raise
    os.close(readied.handle)
    shadow.close()
    return Takeover(trace(shadow.pid), timeline, sockets.connections, sockets.unfinished, sockets.failed)


def trace(pid: int) -> Tracee:
    """The tracee of process `pid`, which is attached to, unless this thread traces it already."""
    clocks = ProgramClocks(pid)
    tracee = Tracee(pid, clock=lambda: clocks.now_ns(CLOCK_MONOTONIC))
    tracee.seize()
    return tracee
