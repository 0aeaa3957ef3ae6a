"""The leader's office: its term, its own lease, whom it can reach, and how patient it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cluster.leader.detector import Detector
from cluster.leader.lease import Grantor
from cluster.registry.values import NodeEntry, NodeId, ProgramEntry, ProgramId


class RegistryView(Protocol):
    """What a leader reads of its node's registry: `registry.Registry`."""

    @property
    def programs(self) -> Mapping[ProgramId, ProgramEntry]: ...

    @property
    def term(self) -> int: ...

    @property
    def nodes(self) -> Mapping[NodeId, NodeEntry]: ...

    def was_deleted(self, program: ProgramId, request_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the leader waits for others, in seconds.

    answers_s: for what mirrors hold. final_s: for a mirror to get the last checkpoint of a program that ended, or is
    held; final_again_s: before it is asked for that again.
    mirrors_s: for a mirror that was up to date and can't be reached, before the program is started without its context.
    answer_s: for the answer of a mirror that says in a heartbeat already that it serves: it has the time line.
    repeat_s: before an order is given again. activate_s, start_s: for a mirror to serve, for a program to start.
    address_s: before a mirror whose address somebody else has is told again to serve; there is no end to that.
    clients_s: for the clients of a program that goes on elsewhere, before agents are started for its mirrors.
    switch_s: for a primary to be held. agent_s: for a new agent to seize a program whose agent died: without end, as
    what a mirror holds is as old as that death, and the program serves. unasked_s: for the node of a primary to ask for
    its lease again, when the last one has ended. begin_s: for a mirror to begin to follow; the daemon that was told may
    have ended before it could tell its agent. rebuild_s and start_again_s: before a rebuild or a clean start is tried
    again, doubling up to longest_s.
    """

    answers_s: float = 0.050
    final_s: float = 0.250
    final_again_s: float = 0.010
    mirrors_s: float = 2.0
    answer_s: float = 0.020
    repeat_s: float = 0.2
    clients_s: float = 0.1
    address_s: float = 1.0
    activate_s: float = 5.0
    start_s: float = 60.0
    switch_s: float = 10.0
    agent_s: float = float("inf")
    unasked_s: float = 5.0
    begin_s: float = 10.0
    rebuild_s: float = 1.0
    start_again_s: float = 0.5
    longest_s: float = 30.0


@dataclass(slots=True)
class Office:
    """What all programs' watches share. `held`: TakeOffice of this term was applied here.

    Before that this node may have been elected, but not know what was decided before; it grants and decides nothing.
    """

    node: NodeId
    registry: RegistryView
    grantor: Grantor
    detector: Detector
    patience: Patience = field(default_factory=Patience)
    term: int = 0
    held: bool = False
    until_s: float = float("-inf")
    decides_since_s: float = float("-inf")
    """Since when `may_decide` has been so without a break."""
    wall_ahead_s: float = 0.0
    """CLOCK_REALTIME less CLOCK_BOOTTIME."""
    _names: int = 0

    def begin(self, now_s: float, term: int, heard_s: float | None) -> None:
        """This node was elected; whom it has not heard of yet has time to be heard. heard_s: see `news.Leading`."""
        self.term, self.held, self._names = term, False, 0
        self.grantor.take_office(now_s if heard_s is None else min(heard_s, now_s))
        for node in self.registry.nodes:
            self.detector.expect(now_s, node)

    def may_decide(self, now_s: float) -> bool:
        """Whether this leader's own lease holds, and it knows all that was decided before."""
        return self.held and now_s < self.until_s

    def reachable(self, now_s: float) -> frozenset[NodeId]:
        """The nodes that are not lost; this one always is there."""
        return frozenset(n for n in self.registry.nodes if n == self.node or not self.detector.lost(now_s, n))

    def drained(self) -> frozenset[NodeId]:
        """The nodes to which no program is to come while another one will do."""
        return frozenset(name for name, node in self.registry.nodes.items() if node.drained)

    def lost(self, now_s: float, node: NodeId) -> bool:
        """Whether nothing can be asked of this node now."""
        return node != self.node and self.detector.lost(now_s, node)

    def name(self, what: str) -> str:
        """A name that was never given before: terms are never given twice, nor is a number within one."""
        self._names += 1
        return f"{self.term}.{self._names}.{what}"
