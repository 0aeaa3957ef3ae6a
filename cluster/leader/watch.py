"""The leader's care for one program: notices trouble, changes the primary, sees it serve, keeps its mirrors. Pure.

It acts on what is so, not on what just happened: every step looks at the registry and at what is known, and orders what
is missing. A leader that is new in office therefore goes on where the one before stopped, wherever that was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.leader.arrival import Arrival
from cluster.leader.asked import Asked
from cluster.leader.facts import Facts, was_started_anew
from cluster.leader.mirrors import Mirrors
from cluster.leader.news import (
    ActivateDone,
    FailoverRequested,
    ProgramNews,
    StartRequested,
    StopRequested,
    SwitchRequested,
)
from cluster.leader.office import Office
from cluster.leader.orders import (
    Answer,
    Commit,
    Note,
    Order,
    ReleaseOn,
    ResumeOn,
    TerminateOn,
)
from cluster.leader.takeover import Takeover
from cluster.leader.time_line import time_line
from cluster.leader.trouble import trouble_of
from cluster.leader.wishes import against_change, against_switch, under_way
from cluster.registry.commands import Command, DeleteProgram, Ok, Rejected, Result, Resume, SetInstance
from cluster.registry.values import InstanceEntry, InstanceId, NodeId, Placement, ProgramEntry, ProgramId
from transport.control import InstanceStatus

STARTS_REMEMBERED_S = 60.0
"""Clean starts within this time make the next one wait longer."""


@dataclass(slots=True)
class Watch:
    """Everything of one program that lasts as long as this leader's term."""

    office: Office
    program: ProgramId
    facts: Facts = field(default_factory=Facts)
    takeover: Takeover | None = None
    wake_s: float = float("-inf")
    _led_here: Takeover | None = None
    """The takeover whose new primary is to come up."""
    _replaced: tuple[NodeId, int] | None = None
    _agreed_s: float = 0.0
    _asked: Asked = field(default_factory=Asked)
    _due_s: dict[tuple[str, NodeId], float] = field(default_factory=dict)
    """When an order may be given again, by its kind and node."""
    _setting: set[InstanceId] = field(default_factory=set)
    _mirrors: Mirrors = field(init=False)
    _arrival: Arrival = field(init=False)
    _starts_s: list[float] = field(default_factory=list)
    _extension: str = ""

    def __post_init__(self) -> None:
        self._mirrors, self._arrival = Mirrors(self.office), Arrival(self.office)

    def hear(self, now_s: float, news: ProgramNews) -> list[Order]:
        """Take in news of this program; call `advance` after it."""
        entry = self._entry(now_s)
        match news:
            case StopRequested() | StartRequested():
                return self._requested(entry, news)
            case ActivateDone() if entry is not None and (news.token, news.node) == (entry.token, entry.primary):
                self._arrival.done = news
        if entry is not None:
            self.facts.learn(now_s, entry, news)
        return []

    def switch(self, now_s: float, news: SwitchRequested) -> list[Order]:
        """A planned switchover is asked for; the answer comes when the new primary serves, or at once if it can't."""
        entry = self._entry(now_s)
        if entry is not None and news.request_id in entry.requests:
            return self._done_already(entry, news.request_id)
        refused = self._against_change(now_s, entry, news.instance)
        if refused is None and entry is not None:
            refused = against_switch(entry)
        if refused is not None:
            return [Answer(news.request_id, refused)]
        self._asked.switch = news
        return []

    def failover(self, now_s: float, news: FailoverRequested) -> list[Order]:
        """An unplanned takeover is asked for; the answer comes when the new primary serves, or at once if it can't."""
        entry = self._entry(now_s)
        if entry is not None and news.request_id in entry.requests:
            return self._done_already(entry, news.request_id)
        refused = self._against_change(now_s, entry, news.instance)
        if refused is None and entry is not None and not news.force and not self._trouble(now_s, entry):
            what = f"the primary on node {entry.primary} serves: what it did of late would be lost"
            refused = Rejected("unfit", what, "kagemusha switchover loses nothing; --force does it all the same")
        if refused is not None:
            return [Answer(news.request_id, refused)]
        self._asked.failover = news
        return []

    def _done_already(self, entry: ProgramEntry, request_id: str) -> list[Order]:
        """Asked again, of another leader perhaps: what was agreed for it is not done a second time."""
        one = entry.primary_instance
        if one is not None and one.status == "starting":
            self._asked.repeated.append(request_id)
            return []
        return [Answer(request_id, Ok(entry.primary if one is None else one.instance))]

    def _against_change(self, now_s: float, entry: ProgramEntry | None, instance: InstanceId) -> Rejected | None:
        if entry is None:
            return Rejected("unknown", f"there is no program {self.program}")
        asked = self._asked
        waiting = (self.takeover, asked.switch, asked.failover, asked.stop, self._arrival.begun_s)
        if any(one is not None for one in waiting):
            return under_way(entry)
        return against_change(now_s, self.office, entry, instance)

    def advance(self, now_s: float) -> list[Order]:
        """Order whatever is missing. Only while the office may decide."""
        self.wake_s = float("inf")
        entry = self._entry(now_s)
        if entry is None:
            return self._deleted() + self._abandon(f"program {self.program} is deleted")
        self._see_extension(now_s, entry)
        orders = self._end_pause(now_s, entry) + self._report(entry)
        if self.takeover is None:
            self._begin(now_s, entry)
        if self.takeover is not None:
            orders += self._go_on(now_s, entry, self.takeover)
        if self.takeover is None:
            orders += self._care(now_s, entry)
        return orders

    def lease_asked(self, now_s: float) -> None:
        """The primary's node asks for its lease: it knows of it, and has it serve or means to."""
        self.facts.asked_s = now_s

    def renewable(self, entry: ProgramEntry) -> bool:
        """Whether the primary under the present token may be granted a lease."""
        if entry.fence is not None or entry.token != self.facts.token:
            return False
        return self.takeover is None or self.takeover.keeps_lease()

    def committed(self, now_s: float, command: Command, result: Result) -> list[Order]:
        """A command that was ordered here was applied; call `advance` after it."""
        takeover = self.takeover
        if isinstance(command, SetInstance):
            self._setting.discard(command.instance)
        elif isinstance(command, DeleteProgram) and self._asked.stop is not None:
            return self._asked.answer_stop(result)
        entry = self._entry(now_s)
        if takeover is None or entry is None or takeover is not self.takeover:
            return []
        return takeover.committed(now_s, entry, self.facts, command, result)

    def _wake(self, at_s: float) -> None:
        self.wake_s = min(self.wake_s, at_s)

    def _due(self, now_s: float, kind: str, node: NodeId, after_s: float) -> bool:
        """Whether an order of this kind is to be given to the node now; if so, not again before `after_s`."""
        at_s = self._due_s.get((kind, node), float("-inf"))
        if now_s >= at_s:
            at_s = self._due_s[kind, node] = now_s + after_s
            self._wake(at_s)
            return True
        self._wake(at_s)
        return False

    def _entry(self, now_s: float) -> ProgramEntry | None:
        """The program's entry; whatever was known of another token is dropped when it has changed."""
        entry = self.office.registry.programs.get(self.program)
        if entry is not None and entry.token != self.facts.token:
            if self.takeover is not None:
                self._replaced = (self.takeover.primary, self.takeover.token)
                self._led_here, self._agreed_s = self.takeover, now_s
            self.takeover = None
            self._arrival.forget()
            self.facts = self.facts.next_token(now_s, entry.token)
            self._due_s.clear()
            self._mirrors.change_primary()
        return entry

    def _see_extension(self, now_s: float, entry: ProgramEntry) -> None:
        if entry.extension is not None and entry.extension.extension_id != self._extension:
            self._extension = entry.extension.extension_id
            self.office.grantor.extend(now_s, self.program, entry.extension.seconds)

    def _end_pause(self, now_s: float, entry: ProgramEntry) -> list[Order]:
        """Failover again, when the time of a pause has come."""
        if not entry.paused or not entry.paused_until_s:
            return []
        ends_s = entry.paused_until_s - self.office.wall_ahead_s
        self._wake(ends_s)
        if now_s < ends_s or not self._due(now_s, "end-pause", "", self.office.patience.repeat_s):
            return []
        return [Commit(Resume(self.office.name("resume"), self.program))]

    # ------------------------------------------------------------------------------------------------------- requests

    def _requested(self, entry: ProgramEntry | None, news: StopRequested | StartRequested) -> list[Order]:
        if isinstance(news, StopRequested) and self.office.registry.was_deleted(self.program, news.request_id):
            return [Answer(news.request_id, Ok(self.program))]
        if entry is None:
            return [Answer(news.request_id, Rejected("unknown", f"there is no program {self.program}"))]
        if isinstance(news, StartRequested) and news.request_id in entry.requests:
            return self._done_already(entry, news.request_id)
        asked = self._asked
        if asked.stop is not None or (asked.start is not None and isinstance(news, StartRequested)):
            verb = "started" if asked.stop is None else "stopped"
            hint = "wait, and look at its status"
            return [Answer(news.request_id, Rejected("busy", f"{self.program} is being {verb} already", hint))]
        if isinstance(news, StopRequested):
            asked.stop = news
            return asked.answer_start(Rejected("busy", f"{self.program} was stopped before it had started"))
        one = entry.primary_instance
        if one is not None and one.status not in ("stopped", "failed"):
            return [Answer(news.request_id, Rejected("unfit", f"{one.instance} is {one.status} already"))]
        asked.start = news
        return []

    def _deleted(self) -> list[Order]:
        """Answer who asked for that, before its outcome is told."""
        stop = self._asked.stop
        if stop is None or not self.office.registry.was_deleted(self.program, stop.request_id):
            return []
        return self._asked.answer_stop(Ok(self.program))

    def _abandon(self, reason: str) -> list[Order]:
        """Answer whoever waits: it will not happen."""
        waiting = self._asked.drop()
        for takeover in (self.takeover, self._led_here):
            if takeover is not None and takeover.request_id:
                waiting.append(takeover.request_id)
        self.takeover = self._led_here = None
        return [Answer(request_id, Rejected("unfit", reason)) for request_id in dict.fromkeys(waiting)]

    def resign(self) -> list[Order]:
        """This node leads no more. The outcome of what is under way is not known here."""
        return self._abandon("this node does not lead any more; ask again, and see what became of it")

    # ------------------------------------------------------------------------------------------------ change of primary

    def _trouble(self, now_s: float, entry: ProgramEntry) -> str:
        """Why the primary can't stay, "" if it can."""
        begun_s = None if self.takeover is None else self.takeover.began_s
        trouble = trouble_of(now_s, self.office, entry, self.facts, self._arrival, begun_s)
        self._wake(trouble.wake_s)
        return trouble.reason

    def _begin(self, now_s: float, entry: ProgramEntry) -> None:
        """Begin a change of the primary, if there must be one."""
        one = entry.primary_instance
        status: InstanceStatus = "stopped" if one is None else one.status
        waits = self._asked
        if one is None or (status == "stopped" and waits.start is not None):
            if waits.start is not None or (not entry.paused and waits.stop is None):
                self._take_over(now_s, entry, "a person starts it" if entry.primary else "it is created", clean=True)
        elif status == "stopped" or self.facts.exited_well():
            pass
        elif status == "failed" and waits.start is not None:
            self._take_over(now_s, entry, "a person starts it")
        elif entry.fence is not None:
            self._take_over(now_s, entry, "its primary is fenced")
        elif (trouble := self._trouble(now_s, entry)) and not entry.paused and not waits.stop and not waits.failover:
            self._take_over(now_s, entry, trouble)
        elif waits.stop is None and (asked := waits.take_change()) is not None:
            forced = isinstance(asked, FailoverRequested)
            reason = trouble or ("a person forced it" if forced else "a person asked for it")
            takeover = self._take_over(now_s, entry, reason, planned=not forced, forced=forced)
            takeover.request_id = asked.request_id
            takeover.target = "" if Placement.parse(asked.instance).node == entry.primary else asked.instance

    def _take_over(
        self,
        now_s: float,
        entry: ProgramEntry,
        reason: str,
        *,
        planned: bool = False,
        clean: bool = False,
        forced: bool = False,
    ) -> Takeover:
        failed_s = now_s if self.facts.ended is None else now_s - self.facts.ended.took_s
        if self.facts.ended is None and self.office.lost(now_s, entry.primary):
            failed_s = self.office.detector.heard_at_s(entry.primary) or now_s
        takeover = Takeover(self.office, entry.token, entry.primary, reason, failed_s, now_s, planned, clean, forced)
        self._starts_s = [at_s for at_s in self._starts_s if at_s > now_s - STARTS_REMEMBERED_S]
        if self._starts_s and self._asked.start is None:
            patience = self.office.patience
            wait_s = min(patience.start_again_s * 2 ** (len(self._starts_s) - 1), patience.longest_s)
            takeover.start_at_s = self._starts_s[-1] + wait_s
        if self._led_here is not None:  # What it led to did not come up: whoever asked for that waits for this.
            takeover.request_id, self._led_here = self._led_here.request_id, None
        self.takeover = takeover
        return takeover

    def _go_on(self, now_s: float, entry: ProgramEntry, takeover: Takeover) -> list[Order]:
        trouble = self._trouble(now_s, entry) or (takeover.reason if takeover.forced else "")
        if takeover.stranded and self._asked.start is not None:
            takeover.clean = True
        if self._asked.stop is not None and (takeover.stranded or (takeover.is_fenced() and self.facts.still())):
            one = entry.primary_instance
            self.takeover = None
            return [] if one is None else self._set(one, "stopped", one.incarnation, "a person stopped it")
        start = self._asked.start
        takeover.asked_by = takeover.request_id or ("" if start is None else start.request_id)
        orders = takeover.advance(now_s, entry, self.facts, trouble)
        self._wake(takeover.wake_s)
        if takeover.phase == "done":
            self.takeover = None
            self._wake(now_s)
            if takeover.request_id:
                refusal = takeover.refusal or Rejected("unfit", f"the primary on node {entry.primary} serves on")
                orders.append(Answer(takeover.request_id, refusal))
        return orders

    # ------------------------------------------------------------------------------------------------------------ care

    def _report(self, entry: ProgramEntry) -> list[Order]:
        """Bring the registry up to date with what instances say of themselves."""
        orders: list[Order] = []
        for one in entry.instances:
            report = self.facts.reports.get(one.node)
            if report is None or report.role != one.role:
                continue
            # Where there is nothing of it there is no agent either, and so no incarnation.
            gone = one.role == "mirror" and report.status == "stopped"
            if report.incarnation < one.incarnation and not gone:
                continue
            if one.role == "primary" and (
                report.token != entry.token or one.status in ("fenced", "stopped", "failed", "starting")
            ):
                continue
            if one.role == "primary" and (report.status not in ("running", "mirrored") or self.takeover is not None):
                continue
            stream = report.stream or one.stream
            incarnation = max(report.incarnation, one.incarnation)
            if (report.status, incarnation, stream) != (one.status, one.incarnation, one.stream):
                orders += self._set(one, report.status, incarnation, report.reason, stream)
        return orders

    def _set(
        self, one: InstanceEntry, status: InstanceStatus, incarnation: int, reason: str, stream: str = ""
    ) -> list[Order]:
        if one.instance in self._setting:
            return []
        self._setting.add(one.instance)
        name = self.office.name("set-instance")
        command = SetInstance(
            name, self.program, one.instance, one.role, status, incarnation, reason[:512], self.office.term, stream
        )
        return [Commit(command)]

    def _care(self, now_s: float, entry: ProgramEntry) -> list[Order]:
        """There is a primary that is not to be changed: see it serve or stopped, and its mirrors with it."""
        one = entry.primary_instance
        if one is None:
            return self._forget(entry)
        if one.status == "stopped":
            return [*self._terminate(now_s, entry), *self._forget(entry)]
        if self._asked.stop is not None or self.facts.exited_well():
            return self._stopping(now_s, entry, one)
        if entry.paused and one.status != "failed" and self.facts.still():
            return self._set(
                one, "failed", one.incarnation, f"{self._trouble(now_s, entry)}; no failover: it is paused"
            )
        if one.status == "starting":
            return self._bring_up(now_s, entry, one)
        # Not only in `_serves`: news between its proposal and its application have begun to wait again.
        self._arrival.begun_s = None
        report = self.facts.primary_report(entry)
        orders: list[Order] = []
        fence_id = "" if report is None else report.fence_id
        if fence_id and self._due(now_s, "resume", one.node, self.office.patience.repeat_s):
            orders.append(ResumeOn(one.node, self.program, entry.token, fence_id))
        return orders + self._care_for_mirrors(now_s, entry)

    def _bring_up(self, now_s: float, entry: ProgramEntry, one: InstanceEntry) -> list[Order]:
        arrival = self._arrival
        if arrival.begin(now_s) and was_started_anew(entry):
            self._starts_s.append(now_s)
        if arrival.is_there(now_s, entry, self.facts):
            return self._serves(now_s, entry, one)
        self._wake(arrival.wake_s)
        orders = self._tell_what_it_waits_for(entry, one)
        if self._due(now_s, "activate", one.node, arrival.again_s(self.facts)):
            orders += arrival.order(entry, one)
        return orders

    def _tell_what_it_waits_for(self, entry: ProgramEntry, one: InstanceEntry) -> list[Order]:
        """Somebody else has its address: that is to stand in the registry, and whoever asked for this waits no more."""
        waits = self.facts.waits
        if waits is None or one.reason == waits.reason:
            return []
        orders = self._set(one, "starting", one.incarnation, waits.reason)
        if orders:
            orders.append(Note(self.program, f"{one.instance} can't serve: {waits.reason}", entry.token))
            refused = Rejected("unfit", waits.reason)
            orders += self._asked.answer_repeated(refused)
            if self._led_here is not None and self._led_here.request_id:
                orders.append(Answer(self._led_here.request_id, refused))
                self._led_here.request_id = ""
        return orders

    def _serves(self, now_s: float, entry: ProgramEntry, one: InstanceEntry) -> list[Order]:
        """The new primary serves: say so, and let the old one go."""
        report = self.facts.primary_report(entry)
        incarnation = one.incarnation if report is None else max(report.incarnation, one.incarnation)
        orders = self._set(one, "running", incarnation, "", "" if report is None else report.stream)
        if not orders:
            return []
        self._arrival.begun_s, self.facts.asked_s = None, now_s
        takeover, self._led_here = self._led_here, None
        if self._replaced is not None and self._replaced[0] not in ("", one.node):
            orders.append(ReleaseOn(self._replaced[0], self.program, self._replaced[1]))
        self._replaced = None
        if takeover is not None:
            parts = time_line(
                takeover, self._agreed_s, now_s, self._arrival.done.timeline if self._arrival.done else ()
            )
            chosen = f"; chosen because {takeover.because}" if takeover.because and not takeover.clean else ""
            what = f"{one.instance} serves: {takeover.reason}{chosen}"
            orders.append(Note(self.program, what, entry.token, parts))
            if takeover.request_id:
                orders.append(Answer(takeover.request_id, Ok(one.instance)))
        serves = Ok(one.instance)
        return orders + self._asked.answer_repeated(serves) + self._asked.answer_start(serves)

    def _care_for_mirrors(self, now_s: float, entry: ProgramEntry) -> list[Order]:
        orders = self._mirrors.care(now_s, entry, self.facts)
        self._wake(self._mirrors.wake_s)
        return orders

    # ------------------------------------------------------------------------------------------------------------- end

    def _stopping(self, now_s: float, entry: ProgramEntry, one: InstanceEntry) -> list[Order]:
        if self.facts.ended is not None or self.facts.still():
            reason = "it ended with status 0" if self.facts.exited_well() else "a person stopped it"
            note = Note(self.program, f"{one.instance} is stopped: {reason}", entry.token)
            orders = self._set(one, "stopped", one.incarnation, reason)
            return [note, *orders] if orders else []
        if self.office.lost(now_s, one.node) and self._asked.stop is not None:
            what = f"node {one.node} can't be reached, {one.instance} may run"
            return self._asked.answer_stop(Rejected("unfit", what))
        if self._due(now_s, "terminate", one.node, self.office.patience.repeat_s):
            return [TerminateOn(one.node, self.program, entry.token)]
        return []

    def _terminate(self, now_s: float, entry: ProgramEntry) -> list[Order]:
        """The program is stopped: no mirror has anything to wait for."""
        orders: list[Order] = []
        for one in entry.instances:
            report = self.facts.reports.get(one.node)
            if one.node == entry.primary or report is None or report.status == "stopped":
                continue
            if not self.office.lost(now_s, one.node) and self._due(
                now_s, "terminate", one.node, self.office.patience.rebuild_s
            ):
                orders.append(TerminateOn(one.node, self.program, entry.token))
        return orders

    def _forget(self, entry: ProgramEntry) -> list[Order]:
        """Answer the request to stop; delete the program if that was asked for."""
        stop = self._asked.stop
        if stop is None:
            return []
        if not stop.forget:
            return self._asked.answer_stop(Ok(self.program))
        if "delete" in self._setting:
            return []
        self._setting.add("delete")
        return [Commit(DeleteProgram(self.office.name("delete"), self.program, stop.request_id))]
