"""Timers that send signals: setitimer(2) and timer_create(2).

What remains of a timer changes all the time, so a record holds when it is due, on the program's own CLOCK_MONOTONIC:
that stays the same from checkpoint to checkpoint, and a shadow's clock goes on where the original's was. CPU time
begins anew in a shadow, so timers on CPU time keep what remained.

Values must be asked for by the program itself (an injected call each). Those that are known to run are asked at every
stop, the others only at a `refresh`; /proc/PID/timers shows every timer of timer_create(2) without asking.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.context.clocks import CLOCK_MONOTONIC, ProgramClocks
from agent.context.record import pack, unpack
from agent.errors import RestoreError
from agent.kernel import procfs
from agent.kernel.libc import NR
from agent.mirror.batch import Batch, Blob
from agent.tracing.stopped import RemoteCall, Stopped
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.mirror.shadow import Shadow

KEY: Final = "timers"
ITIMER_REAL: Final = 0
ITIMERS: Final = 3
SIGEV_THREAD_ID: Final = 4
PR_TIMER_CREATE_RESTORE_IDS: Final = 77
_SIGEVENT_BYTES: Final = 64
_NOTIFY: Final = {"signal": 0, "none": 1, "thread": 2}
_CPU_CLOCKS: Final = (2, 3)
_IDS_TRIED_MAX: Final = 4096
# How far two readings of the same deadline may be apart, beyond the time that the later one took: setitimer(2) counts
# in microseconds, and the earlier one took its time, too.
_SAME_NS: Final = 500_000
_US_NS: Final = 1_000
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TimersRecord:
    """Key "timers".

    interval_timers: of ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF, each (due, interval) in ns; (0, 0) is not armed; `due`
    is a time on the program's CLOCK_MONOTONIC for the first, what remains for the others. timers: of timer_create(2),
    each (id, clock, notify, signal, thread in the program's PID namespace or 0, value, due, interval), `due` likewise a
    time unless the clock counts CPU time.
    """

    interval_timers: tuple[tuple[int, int], ...]
    timers: tuple[tuple[int, int, int, int, int, int, int, int], ...]


_NO_TIMERS: Final = pack(TimersRecord(((0, 0),) * ITIMERS, ()))


class TimerCapture:
    """Captures the timers of one program."""

    def __init__(self, clocks: ProgramClocks) -> None:
        self._clocks = clocks
        self._file: procfs.TimersFile | None = None

    def close(self) -> None:
        """Close what is kept open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def capture(self, stopped: Stopped) -> Records:
        """The record of all timers; in a dying program, what was known of them at the last stop."""
        if self._file is None:
            self._file = procfs.TimersFile(stopped.pid)
        listed = self._file.read()
        if not listed and not stopped.refresh and stopped.previous.get(KEY) == _NO_TIMERS:
            return {KEY: _NO_TIMERS}
        before = _previous(stopped)
        if stopped.dying:
            known = {timer[0]: timer for timer in before.timers}
            present = [known[number] for number in (int(timer["ID"]) for timer in listed) if number in known]
            return {KEY: pack(TimersRecord(before.interval_timers, tuple(present)))}
        running = [which for which in range(ITIMERS) if stopped.refresh or before.interval_timers[which] != (0, 0)]
        if not running and not listed:
            return {KEY: pack(TimersRecord(before.interval_timers, ()))}
        tid = stopped.pid if stopped.pid in stopped.threads else next(iter(stopped.threads))
        intervals = list(before.interval_timers)
        with stopped.remote(tid) as call:
            for which in running:
                intervals[which] = self._interval_timer(stopped, call, which, before.interval_timers[which])
            timers = tuple(self._timer(stopped, call, timer, before) for timer in listed)
        return {KEY: pack(TimersRecord(tuple(intervals), timers))}

    def _interval_timer(
        self, stopped: Stopped, call: RemoteCall, which: int, before: tuple[int, int]
    ) -> tuple[int, int]:
        asked_ns = self._clocks.now_ns(CLOCK_MONOTONIC)
        call(NR.GETITIMER, which, call.scratch)
        told_ns = self._clocks.now_ns(CLOCK_MONOTONIC)
        words = struct.unpack("<4q", os.pread(stopped.memory, 32, call.scratch))
        interval_ns = words[0] * _SECOND_NS + words[1] * _US_NS
        remaining_ns = words[2] * _SECOND_NS + words[3] * _US_NS
        if not remaining_ns and not interval_ns:
            return 0, 0
        if which != ITIMER_REAL:
            return remaining_ns, interval_ns
        # A periodic one has nothing left while its SIGALRM waits to be delivered: then it is due just now.
        return due(before, asked_ns + remaining_ns, told_ns + remaining_ns, interval_ns), interval_ns

    def _timer(
        self, stopped: Stopped, call: RemoteCall, listed: dict[str, str], before: TimersRecord
    ) -> tuple[int, int, int, int, int, int, int, int]:
        number, clock = int(listed["ID"]), int(listed["ClockID"])
        signal_text, _, value_text = listed["signal"].partition("/")
        kind, _, target = listed["notify"].partition("/")
        whom, _, tid_text = target.partition(".")
        notify, thread = _NOTIFY[kind], 0
        if whom == "tid":
            notify |= SIGEV_THREAD_ID
            thread = stopped.threads.get(int(tid_text), 0)
        asked_ns = self._clocks.now_ns(CLOCK_MONOTONIC)
        call(NR.TIMER_GETTIME, number, call.scratch)
        told_ns = self._clocks.now_ns(CLOCK_MONOTONIC)
        words = struct.unpack("<4q", os.pread(stopped.memory, 32, call.scratch))
        interval_ns = words[0] * _SECOND_NS + words[1]
        due_ns = words[2] * _SECOND_NS + words[3]
        if due_ns and not counts_cpu_time(clock):
            known = next((timer for timer in before.timers if timer[0] == number), None)
            due_ns = due(known[6:8] if known else (0, 0), asked_ns + due_ns, told_ns + due_ns, interval_ns)
        return number, clock, notify, int(signal_text), thread, int(value_text, 16), due_ns, interval_ns


def activate(shadow: Shadow, records: Records, batch: Batch) -> None:
    """Make all timers again and start them. One that is overdue fires at once; a periodic one keeps its beat."""
    record = unpack(TimersRecord, records[KEY], KEY)
    now_ns = shadow.clocks.now_ns(CLOCK_MONOTONIC)
    for which, (due_ns, interval_ns) in enumerate(record.interval_timers):
        if due_ns:
            remaining_ns = remaining(due_ns, interval_ns, now_ns) if which == ITIMER_REAL else due_ns
            words = (*divmod(interval_ns // _US_NS, 1_000_000), *divmod(max(remaining_ns // _US_NS, 1), 1_000_000))
            batch.add(NR.SETITIMER, which, struct.pack("<4q", *words), 0, name=f"interval timer {which}")
    if not record.timers:
        return
    restore_ids = shadow.restores_timer_ids
    if restore_ids:
        batch.add(NR.PRCTL, PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0, name="timers with chosen ids")
    made = 0
    for timer in sorted(record.timers):
        made = _add_timer(batch, timer, now_ns, -1 if restore_ids else made)
    if restore_ids:
        batch.add(NR.PRCTL, PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0, name="timers with the next ids")


def counts_cpu_time(clock: int) -> bool:
    """Whether a clock (clock_getres(2)) counts the CPU time of a process or thread."""
    return clock in _CPU_CLOCKS or clock < 0


def remaining(due_ns: int, interval_ns: int, now_ns: int) -> int:
    """How long until a timer is due, at least 1 ns; of a periodic one that is overdue, until its next beat."""
    if due_ns > now_ns:
        return due_ns - now_ns
    if not interval_ns:
        return 1
    return interval_ns - (now_ns - due_ns) % interval_ns


def _add_timer(batch: Batch, timer: tuple[int, int, int, int, int, int, int, int], now_ns: int, next_id: int) -> int:
    """Rows that make one timer; next_id: the id that the kernel gives next, -1: it takes the one that it is given."""
    number, clock, notify, signal, thread, value, due_ns, interval_ns = timer
    event = struct.pack("<Qiii", value, signal, notify, thread).ljust(_SIGEVENT_BYTES, b"\0")
    identity = Blob(struct.pack("<i", number).ljust(8, b"\0"))
    if next_id >= 0:
        if number - next_id > _IDS_TRIED_MAX:
            raise RestoreError(f"timer {number} can't be made again: this kernel can't be told a timer's id")
        for skipped in range(next_id, number):
            batch.add(NR.TIMER_CREATE, clock, event, Blob(8), name=f"unused timer {skipped}")
            batch.add(NR.TIMER_DELETE, skipped, name=f"removal of unused timer {skipped}")
    batch.add(NR.TIMER_CREATE, clock, event, identity, name=f"timer {number}")
    made = batch.load32(identity, name=f"id of timer {number}", expect=number)
    if due_ns:
        left_ns = due_ns if counts_cpu_time(clock) else remaining(due_ns, interval_ns, now_ns)
        words = (*divmod(interval_ns, _SECOND_NS), *divmod(left_ns, _SECOND_NS))
        batch.add(NR.TIMER_SETTIME, made, 0, struct.pack("<4q", *words), 0, name=f"start of timer {number}")
    return number + 1 if next_id >= 0 else next_id


def due(before: Sequence[int], earliest_ns: int, latest_ns: int, interval_ns: int) -> int:
    """When a timer is due, known to be between two times: as recorded before, if that fits (or is a beat of it)."""
    due_before_ns, interval_before_ns = before[0], before[1]
    if due_before_ns and interval_before_ns == interval_ns:
        behind_ns = due_before_ns - (earliest_ns - _SAME_NS)
        if interval_ns:
            behind_ns %= interval_ns
        if 0 <= behind_ns <= latest_ns - earliest_ns + 2 * _SAME_NS:
            return due_before_ns
    return latest_ns


def _previous(stopped: Stopped) -> TimersRecord:
    if KEY in stopped.previous:
        return unpack(TimersRecord, stopped.previous[KEY], KEY)
    return TimersRecord(((0, 0),) * ITIMERS, ())
