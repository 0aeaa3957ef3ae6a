"""What the clients saw (pure): acknowledged writes, gaps, connections that survived, were reset, or hung.

A client connection has one request outstanding at most, and numbers its writes 1, 2, 3, ...: write n goes to the slot
n % SLOTS and asks for the slot's previous value, which must be n - SLOTS. So every acknowledgement also proves that an
earlier write is still there, and the first SLOTS writes after a takeover prove all that matter: what a slot held
before is what was lost. A write without an answer is sent again with the same number, as a client library would.

Times are CLOCK_MONOTONIC in nanoseconds, all of one machine.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

SLOTS = 16
HUNG_AFTER_NS = 5_000_000_000

Kind = Literal["idle", "busy", "anew"]


@dataclass(slots=True)
class Lost:
    """An acknowledged write that is no longer there: its number, when it was acknowledged, when that was noticed."""

    number: int
    acknowledged_ns: int
    noticed_ns: int


@dataclass(slots=True)
class Connection:
    """One client connection, over all reconnects. The reply to write n is `replies_ns[n - 1]`."""

    kind: Kind
    number: int
    replies_ns: array[int] = field(default_factory=lambda: array("q"))
    resets_ns: list[int] = field(default_factory=list)
    hangs_ns: list[int] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def next_write(self) -> int:
        """The number of the write that is outstanding or comes next: all before it were acknowledged."""
        return len(self.replies_ns) + 1

    def expected(self) -> int:
        """What the slot of the next write must hold; 0 for nothing."""
        return max(self.next_write - SLOTS, 0)

    def unexpected(self, previous: int, now_ns: int) -> None:
        """The slot of the next write held `previous`, not `expected()`. Older: writes were lost. Newer than the write
        itself, or of another slot: values that nobody wrote. The write itself: it was sent twice and had arrived."""
        expected = self.expected()
        if previous == self.next_write:
            return
        if previous > expected or previous < 0 or (previous and (expected - previous) % SLOTS):
            self.foreign.append(f"write {self.next_write} found {previous}, expected {expected}")
            return
        oldest = previous + SLOTS if previous else expected % SLOTS or SLOTS
        for number in range(oldest, expected + 1, SLOTS):
            self.lost.append(Lost(number, self.replies_ns[number - 1], now_ns))

    def seen(self, event_ns: int) -> Seen:
        """What this connection saw of an event that began at `event_ns`, from the reply before it until now."""
        first = bisect_right(self.replies_ns, event_ns)
        around = self.replies_ns[max(first - 1, 0) :]
        gap = max(pairwise(around), key=lambda pair: pair[1] - pair[0], default=None)
        resets = [at_ns for at_ns in self.resets_ns if at_ns > event_ns]
        struck_ns = resets[0] if resets else gap[0] if gap else event_ns
        hangs = sum(at_ns > event_ns for at_ns in self.hangs_ns)
        return Seen(
            kind=self.kind,
            number=self.number,
            acknowledged=bisect_right(self.replies_ns, struck_ns),
            replies=len(self.replies_ns) - first,
            gap_ns=gap[1] - gap[0] if gap else None,
            answered_ns=gap[1] if gap else None,
            resets=len(resets),
            hangs=hangs,
            lost=[one for one in self.lost if one.noticed_ns > event_ns],
        )

    def around(self, since_ns: int, until_ns: int) -> list[int]:
        """The times of the replies in [since_ns, until_ns], in ns after since_ns."""
        first, last = bisect_left(self.replies_ns, since_ns), bisect_right(self.replies_ns, until_ns)
        return [at_ns - since_ns for at_ns in self.replies_ns[first:last]]


@dataclass(slots=True)
class Seen:
    """One connection's view of an event. `gap_ns`: the longest time without a reply, from the last one before the
    event on (None: no reply since); `answered_ns`: when that gap ended; `acknowledged`: how many replies came until
    the connection was reset, or else until that gap."""

    kind: Kind
    number: int
    acknowledged: int
    replies: int
    gap_ns: int | None
    answered_ns: int | None
    resets: int
    hangs: int
    lost: list[Lost]

    @property
    def survived(self) -> bool:
        """The very same connection has answered after the event."""
        return self.replies > 0 and not self.resets and not self.hangs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all clients together saw of one event; times in ns of CLOCK_MONOTONIC, `gaps_ns` per kind, longest.

    `answered_ns`, `first_answered_ns`: when the longest gap ended, and when the first connection's gap did.
    An idle connection says nothing while it is idle: it counts for survival, not for the gap.
    """

    event_ns: int
    writes_acknowledged: int
    writes_lost: int
    oldest_lost_ns: int | None
    gap_ns: int | None
    gaps_ns: dict[str, int]
    answered_ns: int | None
    first_answered_ns: int | None
    idle: int
    idle_survived: int
    busy: int
    busy_survived: int
    reset: int
    hung: int
    hung_names: list[str]
    foreign: list[str]
    silent: list[str]


def outcome(connections: Iterable[Connection], event_ns: int) -> Outcome:
    """Judge an event that began at `event_ns`; at stake are all writes that were acknowledged until it struck."""
    connections = list(connections)
    seen = [one.seen(event_ns) for one in connections]
    speaking = [one for one in seen if one.kind != "idle" and one.gap_ns is not None]
    worst = max(speaking, key=lambda one: one.gap_ns or 0, default=None)
    lost = [write for one in seen for write in one.lost]
    idle = [one for one in seen if one.kind == "idle"]
    busy = [one for one in seen if one.kind == "busy"]
    gaps: dict[str, int] = {}
    for one in speaking:
        gaps[one.kind] = max(gaps.get(one.kind, 0), one.gap_ns or 0)
    return Outcome(
        event_ns=event_ns,
        writes_acknowledged=sum(one.acknowledged for one in seen if one.kind != "idle"),
        writes_lost=len(lost),
        oldest_lost_ns=min((write.acknowledged_ns for write in lost), default=None),
        gap_ns=worst.gap_ns if worst else None,
        gaps_ns=gaps,
        answered_ns=worst.answered_ns if worst else None,
        first_answered_ns=min((one.answered_ns or 0 for one in speaking), default=None),
        idle=len(idle),
        idle_survived=sum(one.survived for one in idle),
        busy=len(busy),
        busy_survived=sum(one.survived for one in busy),
        reset=sum(one.resets for one in seen),
        hung=sum(one.hangs for one in seen),
        hung_names=[f"{one.kind} {one.number}" for one in seen if one.hangs],
        foreign=[f"{one.kind} {one.number}: {text}" for one in connections for text in one.foreign],
        silent=[f"{one.kind} {one.number}" for one in seen if not one.replies and not one.hangs],
    )
