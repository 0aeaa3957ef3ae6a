"""The leader's quorum lease: how long a leader may act without hearing from a quorum again. Pure.

Each message to a peer has a number (its round), and its send time is kept here. When a peer acknowledges a round in the
leader's own term, it had not voted for anybody else when the message reached it; and when it votes for another one
later, it says how long ago that was. Counted from the SEND time, on the leader's own clock: the peer heard it no
earlier. So with q members in a quorum, the lease runs from the q-th newest send time that is acknowledged (the leader's
own is now), for lease_s less the drift of its clock.

Only one member holds it at a time: a new leader's authority begins when no lease that a voter of its could have
acknowledged can last (`begin`, not_before_s).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ROUNDS_MAX: Final = 4096
"""Unanswered rounds that are remembered for each peer; an older one that is answered after all does not count."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, as this member knows it.

    leader: None while there is none, or the one that there was is not linked. lease_until_s: CLOCK_BOOTTIME; None
    unless this member leads with authority, and until then it may act. Never act on `leader` alone. heard_s: beside
    lease_until_s; until then one of those who elected it heard another leader, or was one.
    """

    leader: str | None
    term: int
    lease_until_s: float | None
    heard_s: float | None = None

    def holds(self, now_s: float) -> bool:
        """Whether this member may act as the leader at `now_s` (CLOCK_BOOTTIME)."""
        return self.lease_until_s is not None and now_s < self.lease_until_s


class QuorumLease:
    """The lease of one member. All times in seconds on one clock of its own that never stops (CLOCK_BOOTTIME)."""

    def __init__(self, peers: Iterable[str], lease_s: float, drift: float) -> None:
        self._rounds: dict[str, deque[tuple[int, float]]] = {peer: deque(maxlen=ROUNDS_MAX) for peer in peers}
        self._acknowledged: dict[str, float] = {}
        self._quorum = (len(self._rounds) + 1) // 2 + 1
        self._lease_s = lease_s * (1 - drift)
        self._wait_s = lease_s * (1 + drift)
        self._round = 0
        self._term: int | None = None
        self._heard_s = self._not_before_s = 0.0

    def begin(self, term: int, heard_s: float) -> None:
        """This member was elected in `term`. heard_s: when a voter, itself among them, last heard an earlier leader."""
        self._forget_all()
        self._term = term
        self._heard_s, self._not_before_s = heard_s, heard_s + self._wait_s

    def end(self) -> None:
        """This member leads no longer."""
        self._forget_all()
        self._term = None

    def sent(self, peer: str, now_s: float) -> int:
        """A message goes to `peer` now; return its round."""
        self._round += 1
        self._rounds[peer].append((self._round, now_s))
        return self._round

    def acknowledged(self, peer: str, term: int, number: int) -> None:
        """`peer` has answered round `number` in `term`. What is of another term, or unknown, changes nothing."""
        if term != self._term:
            return
        rounds = self._rounds[peer]
        while rounds and rounds[0][0] <= number:
            sent_number, sent_s = rounds.popleft()
            if sent_number == number:
                self._acknowledged[peer] = max(sent_s, self._acknowledged.get(peer, sent_s))

    def quorum_until_s(self, now_s: float) -> float | None:
        """Until when a quorum stands behind this leader; None when it leads not, or no quorum has answered yet."""
        if self._term is None:
            return None
        newest = sorted([now_s, *self._acknowledged.values()], reverse=True)
        return newest[self._quorum - 1] + self._lease_s if len(newest) >= self._quorum else None

    def authority_until_s(self, now_s: float) -> float | None:
        """Like `quorum_until_s`, but None too while an earlier leader's lease may last."""
        return self.quorum_until_s(now_s) if now_s >= self._not_before_s else None

    def sent_before_s(self, until_s: float) -> float:
        """When the round was sent that a lease until `until_s` counts from."""
        return until_s - self._lease_s

    @property
    def heard_s(self) -> float | None:
        """As given to `begin`; None when it leads not."""
        return self._heard_s if self._term is not None else None

    @property
    def not_before_s(self) -> float | None:
        """When this leader's authority begins; None when it leads not."""
        return self._not_before_s if self._term is not None else None

    def _forget_all(self) -> None:
        self._acknowledged.clear()
        for rounds in self._rounds.values():
            rounds.clear()
