"""The leader's decisions: one step machine for all programs, in the order of DESIGN's "Failover, in order". Pure.

`step(now_s, news) -> orders`; `deadline_s` says when to call it with `Tick` if nothing else happens. It runs on every
node and acts only on the one that leads: while its own quorum lease holds, and after its first command (`TakeOffice`)
was applied. From then on it knows everything that was decided before, and nothing that its predecessors still have on
its way can be applied any more.

What it relies on: the registry that it reads is this node's, and a command was applied to it before `Committed` tells
of it; `now_s` is CLOCK_BOOTTIME. docs/failover.md has the argument and what happens in each failure.
"""

from __future__ import annotations

from cluster.leader.detector import Detector, DetectorTimes
from cluster.leader.lease import Grantor, LeaseTimes
from cluster.leader.news import (
    Committed,
    FailoverRequested,
    Leading,
    LeaseAsked,
    News,
    NodeClosed,
    NodeHeard,
    NotLeading,
    RegistryChanged,
    StartRequested,
    StopRequested,
    SwitchRequested,
    Tick,
)
from cluster.leader.office import Office, Patience, RegistryView
from cluster.leader.orders import Answer, Commit, GrantLease, Order, RefuseLease
from cluster.leader.watch import Watch
from cluster.registry.commands import Command, Ok, Rejected, Result, TakeOffice
from cluster.registry.values import NodeId, ProgramEntry, ProgramId

ROUNDS_MAX = 8
"""How often a program is looked at in one step: what was done may make more possible at once."""
NOT_LEADING = Rejected("stale", "this node does not lead, or waits for a quorum", "ask again in a moment")


class Failover:
    """One node's part in deciding. Orders are to be performed in their order."""

    def __init__(
        self,
        node: NodeId,
        registry: RegistryView,
        lease: LeaseTimes | None = None,
        detector: DetectorTimes | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._office = Office(
            node,
            registry,
            Grantor(lease or LeaseTimes()),
            Detector(detector or DetectorTimes()),
            patience or Patience(),
        )
        self._watches: dict[ProgramId, Watch] = {}
        self._unknown: dict[str, tuple[float, Command]] = {}
        self._lost: frozenset[NodeId] = frozenset()
        self._seen_s = float("-inf")

    @property
    def deadline_s(self) -> float | None:
        """When `Tick` is due at the latest; None: nothing is waited for."""
        if not self._office.may_decide(self._seen_s):
            return None
        times_s = [watch.wake_s for watch in self._watches.values()]
        times_s += [at_s for at_s, _ in self._unknown.values()]
        loss_s = self._office.detector.next_loss_s(self._seen_s)
        times_s += [] if loss_s is None else [loss_s]
        return min((at_s for at_s in times_s if at_s < float("inf")), default=None)

    @property
    def leads(self) -> bool:
        """Whether this node is in office; whether it may decide at some moment depends on its lease as well."""
        return self._office.held

    def lease_ends_s(self, program: ProgramId) -> float:
        """For the status: when the primary can't serve any more if nothing more is granted."""
        return self._office.grantor.ended_at_s(program)

    def step(self, now_s: float, news: News) -> list[Order]:
        """Take in one event; return what is to be done, in this order."""
        self._seen_s = now_s
        self._office.detector.awake(now_s)
        match news:
            case Leading():
                return self._lead(now_s, news)
            case NotLeading():
                return self._resign()
            case Tick():
                return self._repeat(now_s) + self._advance_due(now_s)
            case NodeHeard(node):
                self._office.detector.heard(now_s, node)
                return self._advance_due(now_s)
            case NodeClosed(node):
                self._office.detector.closed(node)
                return self._advance_due(now_s)
            case RegistryChanged(program):
                return self._advance(now_s, [program] if program else list(self._office.registry.programs))
            case Committed(command, result):
                return self._committed(now_s, command, result)
            case LeaseAsked():
                return self._lease(now_s, news)
            case SwitchRequested() | FailoverRequested():
                return self._change(now_s, news)
            case _:
                if isinstance(news, StopRequested | StartRequested) and not self._office.may_decide(now_s):
                    return [Answer(news.request_id, NOT_LEADING)]
                orders = self._watch(news.program).hear(now_s, news)
                return orders + self._advance(now_s, [news.program])

    # --------------------------------------------------------------------------------------------------------- office

    def _lead(self, now_s: float, news: Leading) -> list[Order]:
        office = self._office
        orders: list[Order] = []
        if news.term != office.term:
            orders += self._resign()
            office.begin(now_s, news.term, news.heard_s)
            orders.append(Commit(TakeOffice(office.name("office"), office.node, news.term)))
        paused = not office.may_decide(now_s)
        office.until_s = news.until_s
        office.wall_ahead_s = news.wall_s - now_s
        if paused:
            office.decides_since_s = now_s
            orders += self._repeat(now_s) + self._advance(now_s, list(office.registry.programs))
        return orders

    def _resign(self) -> list[Order]:
        orders = [order for watch in self._watches.values() for order in watch.resign()]
        self._watches.clear()
        self._unknown.clear()
        self._office.held, self._office.until_s = False, float("-inf")
        return orders

    def _committed(self, now_s: float, command: Command, result: Result | None) -> list[Order]:
        if not command.request_id.startswith(f"{self._office.term}."):
            return []
        if result is None:
            self._unknown[command.request_id] = (now_s + self._office.patience.repeat_s, command)
            return []
        if isinstance(result, Rejected) and self._office.registry.term > self._office.term:
            self._office.held = False
            return []
        if isinstance(command, TakeOffice):
            self._office.held, self._office.decides_since_s = isinstance(result, Ok), now_s
            return self._advance(now_s, list(self._office.registry.programs))
        program: ProgramId = getattr(command, "program", "")
        watch = self._watches.get(program)
        if watch is None:
            return []
        return watch.committed(now_s, command, result) + self._advance(now_s, [program])

    def _repeat(self, now_s: float) -> list[Order]:
        """Propose again what nobody knows the outcome of; twice is once."""
        if not self._office.until_s > now_s:
            return []
        due = [name for name, (at_s, _) in self._unknown.items() if at_s <= now_s]
        return [Commit(self._unknown.pop(name)[1]) for name in due]

    # ------------------------------------------------------------------------------------------------------- programs

    def _watch(self, program: ProgramId) -> Watch:
        if program not in self._watches:
            self._watches[program] = Watch(self._office, program)
        return self._watches[program]

    def _advance(self, now_s: float, programs: list[ProgramId]) -> list[Order]:
        if not self._office.may_decide(now_s):
            return []
        orders: list[Order] = []
        for program in programs:
            watch = self._watch(program)
            for _ in range(ROUNDS_MAX):
                orders += watch.advance(now_s)
                if watch.wake_s > now_s:
                    break
            if program not in self._office.registry.programs:
                del self._watches[program]
                self._office.grantor.forget(program)
        return orders

    def _advance_due(self, now_s: float) -> list[Order]:
        """Go on with what has waited for this moment; with all, if a node is lost or found."""
        office = self._office
        lost = frozenset(node for node in office.registry.nodes if office.lost(now_s, node))
        if lost != self._lost:
            self._lost = lost
            return self._advance(now_s, list(office.registry.programs))
        return self._advance(now_s, [name for name, watch in self._watches.items() if watch.wake_s <= now_s])

    def _change(self, now_s: float, news: SwitchRequested | FailoverRequested) -> list[Order]:
        if not self._office.may_decide(now_s):
            return [Answer(news.request_id, NOT_LEADING)]
        program = news.instance.partition("@")[0]
        watch = self._watch(program)
        orders = watch.switch(now_s, news) if isinstance(news, SwitchRequested) else watch.failover(now_s, news)
        return orders + self._advance(now_s, [program])

    # --------------------------------------------------------------------------------------------------------- leases

    def _lease(self, now_s: float, news: LeaseAsked) -> list[Order]:
        """Grant or refuse; without an answer a primary serves until its lease ends, and asks the next leader."""
        office = self._office
        if not office.may_decide(now_s):
            return []
        entry = office.registry.programs.get(news.program)
        if entry is None:
            return [_refused(news, "there is no such program", replaced=True)]
        if (news.token, news.node) != (entry.token, entry.primary):
            reason = f"the primary is on node {entry.primary} under token {entry.token}"
            # Until the new primary serves, the old one may be needed: it is held whole, or frozen when its lease ends.
            one = entry.primary_instance
            replaced = news.token <= entry.token and (one is None or one.status not in ("starting", "fenced"))
            return [_refused(news, reason, replaced=replaced)]
        self._watch(news.program).lease_asked(now_s)
        if not self._deserves(entry):
            return [_refused(news, "it is being fenced", replaced=False)]
        granted_s = office.grantor.grant(now_s, news.program, office.until_s)
        if not granted_s:
            return []
        return [GrantLease(news.node, news.program, news.token, news.sent_s, granted_s)]

    def _deserves(self, entry: ProgramEntry) -> bool:
        one = entry.primary_instance
        watch = self._watches.get(entry.program_id)
        return one is not None and one.status != "stopped" and watch is not None and watch.renewable(entry)


def _refused(news: LeaseAsked, reason: str, *, replaced: bool) -> RefuseLease:
    return RefuseLease(news.node, news.program, news.token, reason, replaced)
