"""The coming up of a new primary: ordered until it is there, or too late. Pure.

Somebody who is none of the cluster may have the program's address. Two who answer for it would serve half of the
clients each, so the mirror does not serve then, and keeps all that it holds. It is ordered again and again, until the
address is free: then it goes on from its context. Nothing else is tried, for as long as its node says so: another
mirror would meet the same machine, and so would a start without a context, which for that would forget everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.leader.facts import Facts, was_started_anew
from cluster.leader.news import ActivateDone
from cluster.leader.office import Office
from cluster.leader.orders import ActivateOn, Order, RestartOn
from cluster.registry.values import InstanceEntry, ProgramEntry


@dataclass(slots=True)
class Arrival:
    """Of one program's primary under its present token.

    done: its node's answer that it serves. begun_s: since when it is to come up, None while it is not. wake_s: when
    `is_there` may have another answer if nothing happens.
    """

    office: Office
    done: ActivateDone | None = None
    begun_s: float | None = None
    wake_s: float = float("inf")
    _said_s: float | None = None
    """Since when it says itself that it is up."""

    def forget(self) -> None:
        """There is another primary."""
        self.done, self.begun_s, self._said_s = None, None, None

    def begin(self, now_s: float) -> bool:
        """It is to come up; whether that is news."""
        is_news = self.begun_s is None
        self.begun_s = now_s if self.begun_s is None else self.begun_s
        return is_news

    def late_s(self, entry: ProgramEntry, facts: Facts) -> float | None:
        """When it will be too late for it; None while it is not to come up. Whoever waits for its address, and says
        so, has time."""
        if self.begun_s is None:
            return None
        patience = self.office.patience
        limit_s = patience.start_s if was_started_anew(entry) else patience.activate_s
        return max(self.begun_s, facts.waits_s) + limit_s

    def is_there(self, now_s: float, entry: ProgramEntry, facts: Facts) -> bool:
        """Whether it serves: by its node's answer, or because it has said so for some moments without one."""
        self.wake_s = float("inf")
        if self.done is not None:
            return True
        report = facts.primary_report(entry)
        if report is None or report.status not in ("running", "mirrored"):
            return False
        self._said_s = now_s if self._said_s is None else self._said_s
        self.wake_s = self._said_s + self.office.patience.answer_s
        return now_s >= self.wake_s

    def again_s(self, facts: Facts) -> float:
        """How long after an order it is given again."""
        patience = self.office.patience
        return patience.repeat_s if facts.waits is None else patience.address_s

    def order(self, entry: ProgramEntry, one: InstanceEntry) -> list[Order]:
        """What makes it come up."""
        if entry.last_promotion is None:
            return []
        if was_started_anew(entry):
            return [RestartOn(one.node, entry.program_id, entry.token)]
        return [ActivateOn(one.node, entry.program_id, entry.token, entry.last_promotion.version)]
