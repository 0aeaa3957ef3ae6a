"""What the clients of a program were told, and what of that is still there after a takeover (pure).

Each client numbers its updates 1, 2, 3, ...; the program counts them, and says how many it holds of a client when that
one has connected anew. So what was acknowledged and is beyond that count is lost. An update whose answer did not come
may be there or not, or come to be there when it is not waited for any more: it is no loss, and no gain.

Times are CLOCK_MONOTONIC in nanoseconds, all of one machine.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Lost:
    """An acknowledged update that is not there. is_sure: the program had said that its mirrors have it."""

    number: int
    acknowledged_ns: int
    noticed_ns: int
    is_sure: bool


@dataclass(slots=True)
class Updates:
    """Those of one client. replies_ns: when each of those was acknowledged that are there, as far as is known.

    answers_ns: every answer that there ever was. connects_ns: when the program had said how many it holds.
    found: updates that it holds though they were never answered. unanswered: how many more of those there may be.
    wrong: what it said that can't be.
    """

    client: str
    replies_ns: array[int] = field(default_factory=lambda: array("q"))
    answers_ns: array[int] = field(default_factory=lambda: array("q"))
    connects_ns: list[int] = field(default_factory=list)
    found: int = 0
    unanswered: int = 0
    sure: set[int] = field(default_factory=set)
    lost: list[Lost] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def next(self) -> int:
        """Number of the update that comes next."""
        return len(self.replies_ns) + 1

    def acknowledged(self, now_ns: int, *, is_sure: bool) -> None:
        """The answer to the next update is here."""
        if is_sure:
            self.sure.add(self.next)
        self.replies_ns.append(now_ns)
        self.answers_ns.append(now_ns)

    def held(self, count: int, now_ns: int) -> None:
        """The program holds so many, it says to a client that has connected anew."""
        self.connects_ns.append(now_ns)
        known = len(self.replies_ns)
        if count > known + self.unanswered:
            possible = known + self.unanswered
            self.wrong.append(f"{self.client} has sent {possible} updates, and the program holds {count}")
        for _ in range(count - known):
            self.replies_ns.append(now_ns)
            self.found += 1
            self.unanswered -= 1
        for number in range(count + 1, known + 1):
            self.lost.append(Lost(number, self.replies_ns[number - 1], now_ns, number in self.sure))
            self.sure.discard(number)
        del self.replies_ns[count:]

    def is_back(self, event_ns: int) -> bool:
        """Whether it has connected anew since the event, and has had an answer."""
        return any(at_ns > event_ns for at_ns in self.connects_ns) and self.answers_ns[-1] > self.connects_ns[-1]

    def gap_ns(self, event_ns: int) -> int:
        """The longest time without an acknowledgement, from the last one before the event on."""
        around = self.answers_ns[max(bisect_right(self.answers_ns, event_ns) - 1, 0) :]
        return max((later - sooner for sooner, later in pairwise(around)), default=0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the clients of a program saw of an event. acknowledged: updates before it, of all its time (also those of
    which a client learnt only when it had connected anew).

    oldest_lost_ns: when the oldest of the lost was acknowledged. absent: clients that have no answer since.
    """

    acknowledged: int
    lost: int
    sure: int
    sure_lost: int
    oldest_lost_ns: int | None
    gap_ns: int
    absent: list[str]
    wrong: list[str]


def outcome(clients: Iterable[Updates], event_ns: int) -> Outcome:
    """Judge an event that began at `event_ns`, by all that was seen until now."""
    everybody = list(clients)
    lost = [one for client in everybody for one in client.lost if one.noticed_ns > event_ns]
    return Outcome(
        acknowledged=sum(bisect_left(client.answers_ns, event_ns) + client.found for client in everybody),
        lost=len(lost),
        sure=sum(len(client.sure) for client in everybody) + sum(one.is_sure for one in lost),
        sure_lost=sum(one.is_sure for one in lost),
        oldest_lost_ns=min((one.acknowledged_ns for one in lost), default=None),
        gap_ns=max((client.gap_ns(event_ns) for client in everybody), default=0),
        absent=[client.client for client in everybody if not client.is_back(event_ns)],
        wrong=[text for client in everybody for text in client.wrong],
    )
