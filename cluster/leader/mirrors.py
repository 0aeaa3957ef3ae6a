"""The leader's care for a program's mirrors: each follows the present primary, and who is in step is agreed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.leader.facts import Facts, was_started_anew
from cluster.leader.office import Office
from cluster.leader.orders import Commit, Order, RebuildOn
from cluster.registry.commands import SetInSync
from cluster.registry.values import InstanceEntry, MirrorMember, NodeId, ProgramEntry


@dataclass(slots=True)
class Mirrors:
    """Of one program, for one leader's term. wake_s: when `care` has something to do if nothing happens."""

    office: Office
    wake_s: float = float("inf")
    _due_s: dict[NodeId, float] = field(default_factory=dict)
    _tries: dict[NodeId, int] = field(default_factory=dict)
    _awaited: set[NodeId] = field(default_factory=set)
    """Nodes that were given time to say what they have before they are told to begin anew."""
    _begins_s: dict[NodeId, float] = field(default_factory=dict)
    """Since when each node's mirror is said to be starting, as far as it is."""
    _streams: dict[NodeId, str] = field(default_factory=dict)
    """Where each node's mirror subscribes, as far as this leader knows."""
    _set_due_s: float = float("-inf")
    _served_s: float | None = None
    """Since when the present primary is known to serve."""

    def change_primary(self) -> None:
        """There is another one: everything begins anew."""
        self._due_s.clear()
        self._tries.clear()
        self._begins_s.clear()
        self._streams.clear()
        self._set_due_s = float("-inf")
        self._served_s = None

    def care(self, now_s: float, entry: ProgramEntry, facts: Facts) -> list[Order]:
        """Order what is missing. Every other instance whose node is there is to be a mirror of this primary."""
        self.wake_s = float("inf")
        self._served_s = now_s if self._served_s is None else self._served_s
        begins_s = self._served_s + (0.0 if was_started_anew(entry) else self.office.patience.clients_s)
        if now_s < begins_s:
            self.wake_s = begins_s
            return []
        orders: list[Order] = []
        primary = facts.primary_report(entry)
        stream = "" if primary is None else primary.stream
        for one in entry.instances:
            if one.node == entry.primary:
                continue
            if self.office.lost(now_s, one.node):
                # What made it fail may be over when it is back.
                self._tries.pop(one.node, None)
                self._due_s.pop(one.node, None)
                continue
            follows = self._follows(entry, facts, one, stream) and self._begins(now_s, facts, one.node)
            if not follows and self._is_due(now_s, facts, one.node):
                self._streams[one.node] = stream
                self._begins_s.pop(one.node, None)
                orders.append(RebuildOn(one.node, entry.program_id, entry.primary, entry.token))
        return orders + self._agree_who_is_in_step(now_s, entry, facts)

    def _follows(self, entry: ProgramEntry, facts: Facts, one: InstanceEntry, stream: str) -> bool:
        report = facts.reports.get(one.node)
        if report is None or (report.role, report.token) != ("mirror", entry.token):
            return False
        if report.status not in ("starting", "syncing", "mirrored"):
            return False
        if report.status == "mirrored":
            self._tries.pop(one.node, None)
        # The primary's agent may have been started again, at another port than before.
        return not stream or self._streams.setdefault(one.node, stream) == stream

    def _begins(self, now_s: float, facts: Facts, node: NodeId) -> bool:
        """Whether a mirror that is starting may still be about to follow."""
        if facts.reports[node].status != "starting":
            self._begins_s.pop(node, None)
            return True
        limit_s = self._begins_s.setdefault(node, now_s) + self.office.patience.begin_s
        if now_s >= limit_s:
            return False
        self.wake_s = min(self.wake_s, limit_s)
        return True

    def _is_due(self, now_s: float, facts: Facts, node: NodeId) -> bool:
        """Whether to order it now; if so, not again for a while, which grows."""
        patience = self.office.patience
        if node not in facts.reports and node not in self._awaited:
            self._awaited.add(node)
            self._due_s[node] = now_s + patience.rebuild_s
        at_s = self._due_s.get(node, float("-inf"))
        is_due = now_s >= at_s
        if is_due:
            tries = self._tries.get(node, 0)
            self._tries[node] = min(tries + 1, 10)
            at_s = self._due_s[node] = now_s + min(patience.rebuild_s * 2**tries, patience.longest_s)
        self.wake_s = min(self.wake_s, at_s)
        return is_due

    def _agree_who_is_in_step(self, now_s: float, entry: ProgramEntry, facts: Facts) -> list[Order]:
        """Under `async`: whoever holds a whole checkpoint of this primary, for as long as its node is there.

        What changes with every checkpoint is not in it, so it is agreed anew only when a mirror comes or goes.
        """
        if entry.policy.guarantee != "async":
            return []
        members = [self._member(now_s, entry, facts, one) for one in entry.instances]
        present = tuple(sorted((one for one in members if one is not None), key=lambda one: one.instance))
        if present == entry.in_sync:
            self._set_due_s = float("-inf")
            return []
        if now_s < self._set_due_s:
            self.wake_s = min(self.wake_s, self._set_due_s)
            return []
        self._set_due_s = now_s + self.office.patience.rebuild_s
        name = self.office.name("set-in-sync")
        return [Commit(SetInSync(name, entry.program_id, entry.token, present, self.office.term))]

    def _member(self, now_s: float, entry: ProgramEntry, facts: Facts, one: InstanceEntry) -> MirrorMember | None:
        held = facts.mirrors.get(one.instance)
        if one.role != "mirror" or one.status != "mirrored" or held is None or self.office.lost(now_s, one.node):
            return None
        if (held.version.token, held.incarnation) != (entry.token, one.incarnation):
            return None
        return MirrorMember(one.instance, one.incarnation)
