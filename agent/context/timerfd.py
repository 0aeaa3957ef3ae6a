"""Timers as descriptors: timerfd_create(2).

A record keeps the next expiration as a time on the program's own clock, not what remains: so it stays the same while
the timer runs, and the time of a takeover counts as if the program had only been stopped. Expirations that fall into
that time are counted by the kernel, because the timer is set to where it was due.

A periodic timer that has expired stands still until it is read, and fdinfo knows no more than that. It is asked by
timerfd_gettime(2), as the program itself might: the kernel then counts what was missed and lets the timer run on, so
that who waits for it may be woken once more before it is read.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace

from agent.context.clocks import CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_ALARM
from agent.context.kind import Depends, Restore, Walk
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.kernel.libc import NR
from agent.kernel.timerfd import let_run
from agent.reason import Reason

_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_TFD_IOC_SET_TICKS = 0x40085400  # needs CONFIG_CHECKPOINT_RESTORE
_SAME_NS = 50_000
_SOON_NS = 2_000_000  # between the making of a row and its run
_SECOND_NS = 1_000_000_000
_WALL = (CLOCK_REALTIME, CLOCK_REALTIME_ALARM)


@dataclass(frozen=True, slots=True)
class Timerfd:
    """clock: of timerfd_create(2). settime_flags: of timerfd_settime(2).

    due_ns: the next expiration; 0 = not armed. On the program's own clock `due_clock`: `clock`, but CLOCK_MONOTONIC for
    a relative timer on the wall clock, which setting that clock does not move. ticks: expirations that were not read.
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
        plain = _settings(look)
        before_ns, again, after_ns = _look_again(look, plain, walk)
        if plain.interval_ns and not _nanoseconds(again.field("it_value")):
            with walk.duplicate(look.number) as descriptor:
                let_run(descriptor)
            before_ns, again, after_ns = _look_again(look, plain, walk)
        remaining_ns = _nanoseconds(again.field("it_value"))
        due_ns = (before_ns + after_ns) // 2 + remaining_ns if remaining_ns else 0
        ticks = int(again.field("ticks"))
        if plain.interval_ns and ticks and not due_ns:  # it has expired once more, just now
            due_ns = after_ns + plain.interval_ns
        record = replace(plain, due_ns=due_ns, ticks=ticks)
        previous = walk.previous.get("ofd/" + walk.keys[look.number])
        if previous is not None and _same_timer(unpack(Timerfd, previous), record):
            return previous
        return pack(record)

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """None."""
        return []

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Set it to where it was due; a write of unread expirations would lose one that comes in between."""
        record = unpack(Timerfd, data, key)
        flags = os.O_NONBLOCK if record.nonblocking else 0
        row = restore.batch.add(NR.TIMERFD_CREATE, record.clock, flags, name=f"timerfd_create of {key}")
        number = restore.place(key, row)
        value_ns, ticks, settime_flags = _setting(record, restore)
        if value_ns:
            value = struct.pack("<4q", *divmod(record.interval_ns, _SECOND_NS), *divmod(value_ns, _SECOND_NS))
            restore.batch.add(NR.TIMERFD_SETTIME, number, settime_flags, value, 0, name=f"timerfd_settime of {key}")
        if ticks:
            count = struct.pack("<Q", ticks)
            restore.batch.add(NR.IOCTL, number, _TFD_IOC_SET_TICKS, count, name=f"expirations of {key}")


def _setting(record: Timerfd, restore: Restore) -> tuple[int, int, int]:
    """The value for timerfd_settime(2), expirations to be written besides, and the flags.

    On a clock that nobody sets the value is absolute; a periodic timer's lies as many periods back as were not read:
    the kernel counts them.
    """
    if not record.due_ns:
        return 0, record.ticks, 0
    flags = record.settime_flags | _TFD_TIMER_ABSTIME
    if record.due_clock == record.clock:
        if record.interval_ns and record.ticks * record.interval_ns < record.due_ns:
            return record.due_ns - record.ticks * record.interval_ns, 0, flags
        return record.due_ns, record.ticks, flags
    remaining_ns = record.due_ns - restore.clocks.now_ns(record.due_clock)
    missed = max(0, -((remaining_ns - _SOON_NS) // record.interval_ns)) if record.interval_ns else 0
    remaining_ns = max(1, remaining_ns + missed * record.interval_ns)
    return remaining_ns, record.ticks + missed, record.settime_flags & ~_TFD_TIMER_ABSTIME


def _nanoseconds(value: str) -> int:
    """ "(3, 141592653)": seconds and nanoseconds."""
    seconds, nanoseconds = value.strip("()").split(",")
    return int(seconds) * _SECOND_NS + int(nanoseconds)


def _look_again(look: Look, plain: Timerfd, walk: Walk) -> tuple[int, Look, int]:
    """fdinfo between two readings of the clock that the timer is due on."""
    before_ns = walk.clocks.now_ns(plain.due_clock)
    again = walk.reread(look.number)
    return before_ns, again, walk.clocks.now_ns(plain.due_clock)


def _settings(look: Look) -> Timerfd:
    """All but the time."""
    return Timerfd(
        bool(look.flags & os.O_NONBLOCK),
        int(look.field("clockid")),
        int(look.field("settime flags"), 8),
        0,
        _nanoseconds(look.field("it_interval")),
        0,
    )


def _same_timer(old: Timerfd, new: Timerfd) -> bool:
    """Whether `old` says everything that `new` says, but for the inexactness of looking at two clocks."""
    return replace(old, due_ns=new.due_ns) == new and abs(new.due_ns - old.due_ns) <= _SAME_NS
