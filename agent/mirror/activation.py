"""The takeover: a shadow becomes the program, in two halves.

`make_ready` does what nobody outside can see: it needs no lease, and is done while one is waited for. `go_on` does the
rest. The order is not free:
- threads before descriptors would be slow (a shared descriptor table grows only after an RCU grace period), so both are
  prepared ahead, and here only what changed since;
- connections are restored before the address is there, for a packet that finds the address but no socket is answered
  with a reset; they leave repair mode after it was announced, for only then can they send and be answered;
- credentials come after everything that needs the agent's, timers and signals near the end, and restartable sequences
  last of all in each thread, because the kernel writes into their areas from then on;
- the trampoline goes before the registers are set: unmapping it takes a system call.
The time of each step is measured; none depends on how much memory the program has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.context import children, process, signals, threads, timers
from agent.kernel import ptrace
from agent.mirror.batch import Batch, run_together
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.mirror.shadow import Shadow


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One step of a takeover: what was done, and how long it took in microseconds."""

    name: str
    duration_us: int


class DescriptorRooms(Protocol):
    """All that has a descriptor, as a takeover needs it; see `agent.context.descriptors`."""

    def activate(self, shadow: Shadow, records: Records, batch: Batch) -> None:
        """Rows that make every descriptor at its number."""

    def finish(self, shadow: Shadow, records: Records, batch: Batch) -> None:
        """What is left to do when the address is there and announced: connections may send now."""


class Timeline:
    """The steps that are done. `go_on`: time that passed before is nobody's."""

    def __init__(self) -> None:
        self.steps: list[TimelineStep] = []
        self._last_ns = time.perf_counter_ns()

    def go_on(self) -> None:
        """The next step begins now."""
        self._last_ns = time.perf_counter_ns()

    def done(self, name: str) -> None:
        """The step of this name ends now."""
        now_ns = time.perf_counter_ns()
        self.steps.append(TimelineStep(name, (now_ns - self._last_ns) // 1000))
        self._last_ns = now_ns


def prepare(shadow: Shadow, records: Records, *, highest_descriptor: int = 0) -> None:
    """Do ahead of a takeover whatever can be done: call this after each checkpoint that was applied.

    The layout has been applied. Work is done only for what changed since the last call. Raises RestoreError,
    KernelError, TraceeGone: the mirror can't take over then.
    """
    shadow.make_room_for_descriptors(highest_descriptor)
    process.prepare(shadow, records)
    threads.prepare(shadow, records)
    signals.prepare(shadow, records)


def make_ready(shadow: Shadow, records: Records, descriptors: DescriptorRooms) -> Timeline:
    """The first half: the shadow has all that the program had at the checkpoint of `records`, and does nothing yet.

    Nothing can be seen from outside. No checkpoint can be applied to it any more. Raises RestoreError, KernelError,
    TraceeGone; the shadow must then be destroyed.
    """
    timeline = Timeline()
    prepare(shadow, records)
    timeline.done("prepare")
    batch = shadow.batch()
    descriptors.activate(shadow, records, batch)
    timeline.done("descriptors, rows")
    process.activate(shadow, records, batch)
    signals.activate(shadow, records, batch)
    batch.run()
    timeline.done("descriptors")
    children.activate(shadow, records)
    timeline.done("children")
    _set_up_threads(shadow, records)
    timeline.done("threads")
    return timeline


def go_on(
    shadow: Shadow,
    records: Records,
    descriptors: DescriptorRooms,
    timeline: Timeline,
    *,
    claim_address: Callable[[], None],
    announce: Callable[[], None],
    options: int,
) -> list[TimelineStep]:
    """The second half, after `make_ready`, whose `timeline` it is.

    claim_address: puts the program's address onto this node (and, before that, finishes what must be there when it
    comes). announce: tells the neighbours. options: those of ptrace for a running program, without EXITKILL. The
    calling thread stays the tracer of all threads, which run when this returns. Raises as `make_ready`.
    """
    timeline.go_on()
    claim_address()
    timeline.done("address")
    announce()
    timeline.done("announcement")
    batch = shadow.batch()
    descriptors.finish(shadow, records, batch)
    batch.run()
    timeline.done("connections")
    shadow.drop_trampoline(signals.trap_action(records))
    timeline.done("trampoline")
    threads.set_registers(shadow, records)
    timeline.done("registers")
    for tid in shadow.threads.values():
        ptrace.set_options(tid, options)
    for tid in shadow.threads.values():
        ptrace.cont(tid)
    timeline.done("go")
    return timeline.steps


def _set_up_threads(shadow: Shadow, records: Records) -> None:
    batches = threads.activate(shadow, records)
    leader = batches[shadow.leader]
    timers.activate(shadow, records, leader)
    signals.add_pending(leader, shadow.number, None, signals.shared_pending(records))
    shadow.close_own_descriptors(leader)
    run_together(shadow, batches)
    batch = shadow.batch()
    process.finish(shadow, records, batch)
    batch.run()
