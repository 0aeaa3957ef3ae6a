"""Serving leases: how long a primary may serve without hearing from the leader again. Pure.

The argument, in order:

1. A node asks for its primary and remembers when it **sent** the request; a grant counts from there. The leader counts
   the same grant from when it answers, which is later. So the node's lease ends before the leader believes it to.
2. A leader gives nothing that outlives `s + lease`, where `s` is when it sent the newest round of heartbeats that a
   quorum acknowledged in its term (its own lease runs from `s`, too). A later leader was elected by a quorum, of which
   one member acknowledged that round before it gave its vote (or sent it: it led itself): it knew of it after `s`.
   So a leader that waits for `lease` from when its voters last heard another one, or were one (from its election, where
   that is not known), has waited out every grant of every leader before it, without trust in when those fell.
3. Clocks of two nodes drift apart by `drift` at most, and both sides of a comparison may be wrong: nodes shorten what
   they get by `drift`, leaders lengthen what they wait for by twice that and by `margin`.

All times are seconds of CLOCK_BOOTTIME of the node that the object lives on: it goes on during a suspend.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.registry.values import ProgramId


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """What all nodes of a cluster must have alike. Raises ValueError for times that can't work together.

    lease_s: of a primary. leader_lease_s: of a leader, from the sending of heartbeats that a quorum acknowledged.
    drift: how much faster or slower a clock may run than another, as a fraction. margin_s: added to every wait for a
    lease of another node. fence_s: what a watchdog needs to stop a program; it begins that much before the end.
    """

    lease_s: float = 0.400
    leader_lease_s: float = 0.300
    drift: float = 1e-3
    margin_s: float = 0.010
    fence_s: float = 0.015

    def __post_init__(self) -> None:
        if not 0 < self.leader_lease_s <= self.lease_s:
            raise ValueError("the lease of a leader must be positive, and no longer than that of a primary")
        if not (0 <= self.drift < 0.1 and self.margin_s >= 0 and 0 <= self.fence_s < self.lease_s / 2):
            raise ValueError("drift below 0.1, margin not negative, and time to fence below half a lease")

    def awaited(self, granted_s: float) -> float:
        """How long to wait until something granted for `granted_s` to another node has ended for certain."""
        return granted_s * (1 + 2 * self.drift) + self.margin_s


@dataclass(slots=True)
class Grantor:
    """The leader's side: gives leases, and knows from when on a primary can't serve any more.

    It must be told of every term in which this node leads (`take_office`) before it grants or is asked anything.
    """

    times: LeaseTimes
    office_ends_s: float = float("-inf")
    """When everything that earlier leaders granted has ended."""
    ends_s: dict[ProgramId, float] = field(default_factory=dict)
    """When everything that was granted here has ended, by program."""

    def take_office(self, heard_s: float) -> None:
        """A new term began. Until `heard_s` its voters heard another leader, whose grants must be waited out."""
        self.office_ends_s = heard_s + self.times.awaited(self.times.lease_s)

    def grant(self, now_s: float, program: ProgramId, leading_until_s: float) -> float:
        """Return for how many seconds the primary may serve from the sending of its request on; 0: not at all.

        leading_until_s: the end of this leader's own lease. Whether the program deserves it is the caller's question.
        """
        if now_s >= leading_until_s:
            return 0.0
        round_sent_s = leading_until_s - self.times.leader_lease_s
        granted_s = min(self.times.lease_s, round_sent_s + self.times.lease_s - now_s)
        if granted_s <= self.times.fence_s:
            return 0.0
        self.extend(now_s, program, granted_s)
        return granted_s

    def extend(self, now_s: float, program: ProgramId, granted_s: float) -> None:
        """Something of this length was granted at `now_s` or before, by whomever."""
        self.ends_s[program] = max(self.ends_s.get(program, 0.0), now_s + self.times.awaited(granted_s))

    def ended_at_s(self, program: ProgramId) -> float:
        """From when on the program's primary can't serve any more, if nothing more is granted."""
        return max(self.office_ends_s, self.ends_s.get(program, self.office_ends_s))

    def forget(self, program: ProgramId) -> None:
        """The program is deleted."""
        self.ends_s.pop(program, None)


@dataclass(slots=True)
class ServingLease:
    """The node's side, for one primary under one token.

    until_s: it must have stopped by then. Begins without a lease: the first grant comes before the program may serve.
    """

    times: LeaseTimes
    token: int
    until_s: float = float("-inf")

    def granted(self, now_s: float, token: int, sent_s: float, granted_s: float) -> bool:
        """A grant arrived, for the request that was sent at `sent_s`; return whether it counts.

        One for another token, from the future, or that is over already changes nothing. Grants may come out of order.
        """
        if token != self.token or sent_s > now_s or not 0 < granted_s <= self.times.lease_s:
            return False
        return self._until(now_s, sent_s + granted_s * (1 - self.times.drift))

    def extended(self, now_s: float, token: int, sent_s: float, seconds: int) -> bool:
        """A committed extension, asked for at `sent_s`; return whether it counts. See `commands.Extend`."""
        if token != self.token or sent_s > now_s or seconds <= 0:
            return False
        return self._until(now_s, sent_s + seconds * (1 - self.times.drift))

    def may_serve(self, now_s: float) -> bool:
        """Whether the program may serve now. At `stop_at_s` it must begin to stop."""
        return now_s < self.stop_at_s

    @property
    def stop_at_s(self) -> float:
        return self.until_s - self.times.fence_s

    def _until(self, now_s: float, until_s: float) -> bool:
        if until_s <= now_s:
            return False
        self.until_s = max(self.until_s, until_s)
        return True
