"""The times of a Raft member, checked against each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from transport.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Times:
    """heartbeat_s: between a leader's messages. election_min_s, election_max_s: silence after which a follower stands
    for election (drawn anew each time). leader_lease_s: how long a leader may act after it sent what a quorum
    acknowledged. drift: by what part of a time two clocks may run apart. compact_entries, compact_s: the journal is
    replaced by a snapshot when it is longer or older.

    Raises ConfigError when they do not fit together.
    """

    heartbeat_s: float = 0.05
    election_min_s: float = 0.15
    election_max_s: float = 0.30
    leader_lease_s: float = 0.30
    drift: float = 1e-3
    compact_entries: int = 2000
    compact_s: float = 300.0

    def __post_init__(self) -> None:
        for wrong, what in (
            (self.heartbeat_s <= 0, "heartbeat must be above 0"),
            (self.election_min_s < 2 * self.heartbeat_s, "the shortest election time must be at least two heartbeats"),
            (self.election_max_s <= self.election_min_s, "the longest election time must be above the shortest"),
            (self.leader_lease_s < 2 * self.heartbeat_s, "the leader's lease must be at least two heartbeats"),
            (not 0 <= self.drift < 0.1, "drift must be at least 0 and below 0.1"),
            (self.compact_entries < 2, "compaction needs at least 2 entries"),
            (self.compact_s <= 0, "the time between compactions must be above 0"),
        ):
            if wrong:
                raise ConfigError(f"raft times: {what}")

    @property
    def faithful_s(self) -> float:
        """For so long after it heard a leader, a member votes for nobody else.

        Less than the shortest election time: the first candidate after a leader's death must not be refused because it
        heard that leader a few milliseconds before the others.
        """
        return 0.8 * self.election_min_s

    @property
    def alive_s(self) -> float:
        """How often members tell each other that they are there, when they have nothing else to say."""
        return 2 * self.heartbeat_s

    @property
    def reach_s(self) -> float:
        """A member that was heard within this time is in reach."""
        return max(self.election_max_s, 3.5 * self.alive_s)

    @property
    def silence_s(self) -> float:
        """After this time without a word, the connection is taken for dead and made anew."""
        return max(1.0, 3 * self.reach_s)
