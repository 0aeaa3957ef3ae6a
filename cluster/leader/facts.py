"""What the leader knows of one program under its present token. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cluster.leader.news import (
    ActivateFailed,
    ActivateWaits,
    AgentLost,
    FenceConfirmed,
    HealthChanged,
    InstanceEnded,
    InstanceReported,
    MirrorReported,
    SwitchFailed,
    SwitchHeld,
)
from cluster.leader.selection import Held
from cluster.registry.values import InstanceId, NodeId, Placement, ProgramEntry
from transport.checkpoint import Version


@dataclass(slots=True)
class Facts:
    """News of the primary under `token`, and of all instances.

    ended, failed, held, refused, waits: the last such news of this token. waits_s: when that was. confirmed: fences
    that its node confirmed. agent_lost_s: when its agent was lost (None: it is there); agent_alive: and whether its
    program ran on. asked_s: when the primary's node last asked for its lease; until it has, when the token began, or
    the primary was seen to serve. unhealthy: why, or "". reports: the last of each node, in this term. mirrors: what
    each mirror said last. answered: nodes whose mirrors answered since they were asked. excluded: mirrors that were
    tried in vain.
    """

    token: int = 0
    ended: InstanceEnded | None = None
    failed: ActivateFailed | None = None
    held: SwitchHeld | None = None
    refused: SwitchFailed | None = None
    waits: ActivateWaits | None = None
    waits_s: float = float("-inf")
    confirmed: set[str] = field(default_factory=set)
    agent_lost_s: float | None = None
    agent_alive: bool = True
    asked_s: float = float("-inf")
    unhealthy: str = ""
    reports: dict[NodeId, InstanceReported] = field(default_factory=dict)
    mirrors: dict[InstanceId, Held] = field(default_factory=dict)
    answered: set[NodeId] = field(default_factory=set)
    excluded: dict[InstanceId, str] = field(default_factory=dict)

    def next_token(self, now_s: float, token: int) -> Facts:
        """What stays true under another token: what instances reported, and who was tried in vain.

        What mirrors held does not: the primary before may have said it when it was one.
        """
        failed = {}
        if self.failed is not None:
            failed = {str(Placement(self.failed.program, self.failed.node)): self.failed.reason}
        return Facts(token, asked_s=now_s, reports=self.reports, excluded={**self.excluded, **failed})

    def learn(self, now_s: float, entry: ProgramEntry, news: object) -> None:
        """Take in what was told; what is of another token says nothing of this primary."""
        match news:
            case InstanceReported():
                self._reported(entry, news)
            case MirrorReported(held=held):
                self.mirrors[held.instance] = held
                if news.asked:
                    self.answered.add(news.node)
            case InstanceEnded() if self._of_primary(entry, news.token, news.node):
                if self.ended is None:  # Told again and again; meanwhile a mirror may have been made anew.
                    self._hold(news.holders, news.final)
                if self.ended is None or news.fenced:
                    self.ended = news
            case AgentLost() if self._of_primary(entry, news.token, news.node):
                self.agent_lost_s = now_s if self.agent_lost_s is None else self.agent_lost_s
                self.agent_alive = news.alive
            case HealthChanged() if news.token == entry.token:
                self.unhealthy = news.reason
            case FenceConfirmed() if self._of_primary(entry, news.token, news.node):
                self.confirmed.add(news.fence_id)
            case ActivateFailed() if self._of_primary(entry, news.token, news.node):
                self.failed = news
            case ActivateWaits() if self._of_primary(entry, news.token, news.node):
                self.waits, self.waits_s = news, now_s
            case SwitchHeld() if self._of_primary(entry, news.token, news.node):
                if self.held is None:
                    self._hold(news.holders, news.version)
                self.held = news
            case SwitchFailed() if self._of_primary(entry, news.token, news.node):
                self.refused = news

    def _reported(self, entry: ProgramEntry, news: InstanceReported) -> None:
        self.reports[news.node] = news
        if news.role == "mirror" and news.token == entry.token and news.status != "failed":
            self.excluded.pop(str(Placement(news.program, news.node)), None)
        elif self._of_primary(entry, news.token, news.node) and news.status in ("running", "mirrored"):
            self.agent_lost_s = None

    def _hold(self, holders: Iterable[InstanceId], last: Version | None) -> None:
        """These mirrors told the primary that they hold its last checkpoint; nothing that is known is newer."""
        captured_ns = max((one.captured_ns for one in self.mirrors.values()), default=0)
        for name in holders:
            known = self.mirrors.get(name)
            if known is not None and last is not None:
                self.mirrors[name] = replace(known, version=last, captured_ns=captured_ns)

    def _of_primary(self, entry: ProgramEntry, token: int, node: NodeId) -> bool:
        return token == entry.token and node == entry.primary

    def primary_report(self, entry: ProgramEntry) -> InstanceReported | None:
        """What the primary under the present token said of itself last, in this term."""
        report = self.reports.get(entry.primary)
        if report is None or report.role != "primary" or report.token != entry.token:
            return None
        return report

    def exited_well(self) -> bool:
        """Whether the program ended by itself with status 0: it is stopped, and nothing is to be continued."""
        return self.ended is not None and self.ended.status == 0

    def still(self) -> bool:
        """Whether the primary has no effect any more because it is no more."""
        ended = self.ended is not None and self.ended.fenced
        return ended or (self.failed is not None and self.failed.fenced)


def was_started_anew(entry: ProgramEntry) -> bool:
    """Whether the present primary began without a context (`Started`), not from a checkpoint."""
    return entry.last_promotion is not None and entry.last_promotion.version.number == 0
