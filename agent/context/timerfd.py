"""Timers as descriptors: timerfd_create(2).

A record keeps the next expiration as a time on the program's own clock, not what remains: so it stays the same while
the timer runs, and the time of a takeover counts as if the program had only been stopped. Expirations that fall into
that time are counted by the kernel, because the timer is set to where it was due.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from agent.context.clocks import CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_ALARM
from agent.context.kind import Depends, Restore, Walk
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.kernel.libc import NR
from agent.reason import Reason

_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_TFD_IOC_SET_TICKS = 0x40085400  # needs CONFIG_CHECKPOINT_RESTORE
_SAME_NS = 50_000
_SECOND_NS = 1_000_000_000
_WALL = (CLOCK_REALTIME, CLOCK_REALTIME_ALARM)


@dataclass(frozen=True, slots=True)
class Timerfd:
    """clock: of timerfd_create(2). settime_flags: of timerfd_settime(2).

    due_ns: the next expiration, or an earlier one that was not read yet; 0 = not armed. On the program's own clock
    `due_clock`: `clock`, but CLOCK_MONOTONIC for a relative timer on the wall clock, which setting that clock does not
    move. ticks: expirations before `due_ns` that were not read.
    """

    nonblocking: bool
    clock: int
    settime_flags: int
    due_ns: int
    interval_ns: int
    ticks: int

    @property
    def due_clock(self) -> int:
        """The clock that `due_ns` is a time of."""
        relative = not self.settime_flags & _TFD_TIMER_ABSTIME
        return CLOCK_MONOTONIC if relative and self.clock in _WALL else self.clock


class TimerfdKind:
    """A timer is made anew and set to its due time."""

    name = "timerfd"
    depends: Depends = "content"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is one."""
        return look.link == "anon_inode:[timerfd]"

    def capture(self, look: Look, walk: Walk) -> bytes:
        """What remains stands in fdinfo; it is read again here, between two looks at the clock."""
        plain = Timerfd(
            bool(look.flags & os.O_NONBLOCK),
            int(look.field("clockid")),
            int(look.field("settime flags"), 8),
            0,
            _nanoseconds(look.field("it_interval")),
            int(look.field("ticks")),
        )
        before_ns = walk.clocks.now_ns(plain.due_clock)
        again = walk.reread(look.number)
        after_ns = walk.clocks.now_ns(plain.due_clock)
        record = _with_due(plain, (before_ns + after_ns) // 2, again)
        previous = walk.previous.get("ofd/" + walk.keys[look.number])
        if previous is not None and _same_timer(unpack(Timerfd, previous), record, after_ns):
            return previous
        return pack(record)

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """None."""
        return []

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Absolute times wherever the clock can't be set, so that nothing is lost while the rows wait to run."""
        record = unpack(Timerfd, data, key)
        flags = os.O_NONBLOCK if record.nonblocking else 0
        row = restore.batch.add(NR.TIMERFD_CREATE, record.clock, flags, name=f"timerfd_create of {key}")
        number = restore.place(key, row)
        if record.due_ns:
            value_ns, settime_flags = record.due_ns, record.settime_flags | _TFD_TIMER_ABSTIME
            if record.due_clock != record.clock:
                value_ns = max(1, record.due_ns - restore.clocks.now_ns(record.due_clock))
                settime_flags = record.settime_flags & ~_TFD_TIMER_ABSTIME
            value = struct.pack("<4q", *divmod(record.interval_ns, _SECOND_NS), *divmod(value_ns, _SECOND_NS))
            restore.batch.add(NR.TIMERFD_SETTIME, number, settime_flags, value, 0, name=f"timerfd_settime of {key}")
        if record.ticks:
            ticks = struct.pack("<Q", record.ticks)
            restore.batch.add(NR.IOCTL, number, _TFD_IOC_SET_TICKS, ticks, name=f"ticks of {key}")


def _nanoseconds(value: str) -> int:
    """ "(3, 141592653)": seconds and nanoseconds."""
    seconds, nanoseconds = value.strip("()").split(",")
    return int(seconds) * _SECOND_NS + int(nanoseconds)


def _with_due(plain: Timerfd, now_ns: int, look: Look) -> Timerfd:
    """The record with its due time.

    After an expiration a periodic timer stands still until it is read: fdinfo then says that nothing remains, and
    its phase is known only from an earlier record (`_same_timer`). Without one, the expiration was just now.
    """
    remaining_ns = _nanoseconds(look.field("it_value"))
    ticks = int(look.field("ticks"))
    due_ns = now_ns + remaining_ns if remaining_ns else now_ns + plain.interval_ns if plain.interval_ns and ticks else 0
    return Timerfd(plain.nonblocking, plain.clock, plain.settime_flags, due_ns, plain.interval_ns, ticks)


def _same_timer(old: Timerfd, new: Timerfd, now_ns: int) -> bool:
    """Whether `old` says everything that `new` says, but for the inexactness of looking at two clocks."""
    settings = (old.nonblocking, old.clock, old.settime_flags, old.interval_ns)
    if settings != (new.nonblocking, new.clock, new.settime_flags, new.interval_ns):
        return False
    expired = new.interval_ns > 0 and new.ticks == old.ticks + 1 and 0 < old.due_ns <= now_ns
    return expired or (new.ticks == old.ticks and abs(new.due_ns - old.due_ns) <= _SAME_NS)
