"""A virtual clock, a network that delays, reorders and divides, and a Raft group as its papers promise it, no better.

The group: terms, votes without any stickiness, heartbeat rounds with acknowledgements, entries in order. What a leader
that was deposed had proposed is agreed if a voter of its successor had it, and otherwise is lost, or reaches the
successor later (the library forwards proposals). Entries stand in one list; each node applies a prefix of it, and a new
leader learns how far it goes only when an entry of its own is agreed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.leader.lease import LeaseTimes
from cluster.registry.commands import Command, Ok, Promote, Started, decode_command, encode
from cluster.registry.state_machine import Registry
from tests.cluster.simulation.trace import Granted, Trace

if TYPE_CHECKING:
    from tests.cluster.simulation.node import Node

HEARTBEAT_S = 0.050
LEADER_LEASE_S = LeaseTimes().leader_lease_s


@dataclass(slots=True)
class Pending:
    """A proposal that is not agreed yet. origin: who proposed it; acked: who has it."""

    command: Command
    origin: Node
    acked: set[str] = field(default_factory=set)


class World:
    """All of it. `now_s` is true time; nodes see it only through their clocks."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.trace = Trace()
        self.nodes: dict[str, Node] = {}
        self.log: list[Command] = []
        self.registry = Registry()
        self.seen: set[str] = set()
        self.cut: set[frozenset[str]] = set()
        self.slow = 0.0
        """How often a message is late."""
        self.jitter_s = 0.003
        """How late a message may be that is not."""
        self.sabotage = 0.0
        """How often a leader is cut off in the very moment in which it proposes a fence or a new primary."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do this later."""
        self._count += 1
        heapq.heappush(self._heap, (self.now_s + max(delay_s, 0.0), self._count, action))

    def run(self, until_s: float) -> None:
        """Let everything happen until then."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._heap)
            action()
        self.now_s = until_s

    def send(self, sender: Node, receiver: Node, action: Callable[[], None]) -> None:
        """Let the receiver do this when the message arrives, if it does. Messages overtake each other."""
        if sender is receiver:
            receiver.inbox(action)
            return
        delay_s = self.random.uniform(0.0002, self.jitter_s)
        if self.random.random() < self.slow:
            delay_s = self.random.uniform(0.003, 0.4)
        born = receiver.boot

        def arrive() -> None:
            if receiver.up and receiver.boot == born and not self.divided(sender, receiver):
                receiver.inbox(action)

        if sender.up and not self.divided(sender, receiver):
            self.after(delay_s, arrive)

    def isolate(self, victim: Node, for_s: float) -> None:
        """Cut a node off from all others; in the end everyone hears everyone."""
        self.cut |= {frozenset((victim.name, other)) for other in self.nodes if other != victim.name}
        self.after(for_s, self.cut.clear)

    def divided(self, one: Node, other: Node) -> bool:
        """Whether nothing passes between them."""
        return frozenset((one.name, other.name)) in self.cut

    @property
    def quorum(self) -> int:
        return len(self.nodes) // 2 + 1

    def agree(self, command: Command) -> None:
        """Append an entry; from here on it is agreed."""
        command = decode_command(encode(command))
        result = self.registry.apply(command)
        self.log.append(command)
        if isinstance(command, Promote | Started) and isinstance(result, Ok) and command.request_id not in self.seen:
            node = command.instance.partition("@")[2]
            asked_by = command.asked_by if isinstance(command, Promote) else ""
            planned = isinstance(command, Promote) and command.at_s == 0
            granted = Granted(self.now_s, command.expected_token, int(result.value), node, asked_by, planned)
            self.trace.granted.append(granted)
        self.seen.add(command.request_id)


class Member:
    """One node's part in the group."""

    def __init__(self, world: World, node: Node) -> None:
        self.world, self.node = world, node
        self.term = 0
        self.voted: dict[int, str] = {}
        self.pending: list[Pending] = []
        self.restart()

    def restart(self) -> None:
        """Forget what is not durable."""
        self.leads = False
        self.leader: Node | None = None
        self.votes: set[str] = set()
        self.rounds: dict[int, tuple[float, set[str]]] = {}
        self.number = 0
        self.acked_s = float("-inf")
        self.heard_s = self.voters_heard_s = self.node.clock_s()
        self.heard()

    def heard(self) -> None:
        """Wait for a leader for a time of its own."""
        self.waits_until_s = self.world.now_s + self.world.random.uniform(0.15, 0.30)

    def others(self) -> list[Node]:
        return [one for one in self.world.nodes.values() if one is not self.node]

    def tick(self) -> None:
        """Every few milliseconds: ask for votes when no leader is heard."""
        if not self.leads and self.world.now_s >= self.waits_until_s:
            self.heard()
            self.term += 1
            term, self.votes, self.leader = self.term, {self.node.name}, None
            self.voters_heard_s = self.heard_s
            self.voted[term] = self.node.name
            for one in self.others():
                self.world.send(self.node, one, lambda one=one: one.member.asked(self.node, term))  # type: ignore[misc]

    def asked(self, candidate: Node, term: int) -> None:
        """Asked for a vote."""
        if term > self.term:
            self.step_down(term)
        if term == self.term and self.voted.setdefault(term, candidate.name) == candidate.name and not self.leads:
            self.heard()
            ago_s = self.node.clock_s() - self.heard_s
            self.world.send(self.node, candidate, lambda: candidate.member.got(self.node, term, ago_s))

    def got(self, voter: Node, term: int, ago_s: float) -> None:
        """Got a vote, of one that heard a leader so long ago."""
        if term != self.term or self.leads or self.voted.get(term) != self.node.name:
            return
        self.votes.add(voter.name)
        self.voters_heard_s = max(self.voters_heard_s, self.node.clock_s() - ago_s)
        if len(self.votes) >= self.world.quorum:
            self.leads, self.leader = True, self.node
            self.rounds, self.acked_s = {}, float("-inf")
            self.inherit()
            self.beat()

    def inherit(self) -> None:
        """What earlier leaders had proposed: a voter has it, or it is lost, or it comes later from somewhere else."""
        for one in self.world.nodes.values():
            if one is self.node:
                continue
            rest = []
            for pending in one.member.pending:
                if pending.acked & self.votes:
                    self.world.agree(pending.command)
                elif self.world.random.random() < 0.5:
                    rest.append(pending)
            one.member.pending = []
            for pending in rest:
                late_s = self.world.random.choice([0.0, 0.01, 0.3, 0.7, 1.0, 1.5])
                command, origin = pending.command, pending.origin
                self.world.after(late_s, lambda command=command, origin=origin: self.propose(command, origin))  # type: ignore[misc]

    def step_down(self, term: int) -> None:
        """There is a newer term."""
        self.term = term
        if self.leads:
            self.leads = False
            # It heard itself, at the last round that a quorum acknowledged, or now while it may act on that.
            acts = self.node.clock_s() < self.acked_s + LEADER_LEASE_S
            self.heard_s = self.node.clock_s() if acts else max(self.heard_s, self.acked_s)
            self.node.deposed()

    def beat(self) -> None:
        """One round of heartbeats."""
        if not self.leads:
            return
        self.number += 1
        number, term = self.number, self.term
        self.rounds = {old: entry for old, entry in self.rounds.items() if old > number - 20}
        self.rounds[number] = (self.node.clock_s(), {self.node.name})
        self.spread(number)
        self.world.after(HEARTBEAT_S, lambda: self.node.inbox(self.beat) if self.term == term and self.leads else None)

    def spread(self, number: int) -> None:
        """Send what is pending and agreed to everyone."""
        entries, agreed, term = list(self.pending), self.node.applied, self.term
        for one in self.others():
            self.world.send(
                self.node,
                one,
                lambda one=one: one.member.append(self.node, term, number, entries, agreed),  # type: ignore[misc]
            )

    def append(self, leader: Node, term: int, number: int, entries: list[Pending], agreed: int) -> None:
        """Heard a leader."""
        if term < self.term:
            return
        if term > self.term or self.leader is not leader:
            self.step_down(term)
        self.leader = leader
        self.heard_s = self.node.clock_s()
        self.heard()
        self.node.apply(agreed)
        names = [entry for entry in entries if entry in leader.member.pending]
        for entry in names:
            entry.acked.add(self.node.name)
        self.world.send(self.node, leader, lambda: leader.member.acknowledged(self.node, term, number, names))

    def acknowledged(self, voter: Node, term: int, number: int, entries: list[Pending]) -> None:
        """A follower has it all."""
        if not self.leads or term != self.term:
            return
        if number in self.rounds:
            sent_s, acks = self.rounds[number]
            acks.add(voter.name)
            if len(acks) >= self.world.quorum and sent_s > self.acked_s:
                self.acked_s = sent_s
                self.node.leading(term, sent_s)
        self.agree_more()

    def agree_more(self) -> None:
        """Whatever a quorum has is agreed, in order."""
        while self.leads and self.pending and len({self.node.name, *self.pending[0].acked}) >= self.world.quorum:
            pending = self.pending.pop(0)
            self.world.agree(pending.command)
            self.node.apply(len(self.world.log))

    def propose(self, command: Command, origin: Node) -> None:
        """Propose here, or pass it on to the leader."""
        if self.leads:
            self.pending.append(Pending(command, origin))
            self.spread(self.number)
        elif self.leader is not None and self.leader is not self.node:
            leader = self.leader
            self.world.send(self.node, leader, lambda: leader.member.propose(command, origin))
