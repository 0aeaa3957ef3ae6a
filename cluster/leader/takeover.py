"""One change of a program's primary, from the decision that there must be one to the agreed new token. Pure.

The phases and the order in them, which is the whole point:

1. `fencing`: no lease is granted from here on. The primary is asked to fence itself (or, planned, to hold), until that
   is confirmed, or it is known to be no more, or every lease that it may have has ended.
2. `asking`: that it is fenced is proposed, and meanwhile every mirror that can be reached is asked what it holds: what
   they said before the fence is old news.
3. `agreeing`: when the fence is agreed and the answers are in, the best mirror is proposed. The proposal names the
   token that it replaces and the fence: if either is not there any more, it has no effect. So it need not wait where no
   answer can matter: a mirror that is known to hold the very last checkpoint is proposed right behind the fence, and
   gets ready meanwhile.
4. Or `undoing`: the fence is released first, and only then may the primary serve on.

Activation comes after that, under the new token: `watch`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from cluster.leader.facts import Facts
from cluster.leader.office import Office
from cluster.leader.orders import AskFence, AskMirrors, Commit, GetReadyOn, Note, Order, ResumeOn, SwitchOn
from cluster.leader.selection import Choice, Held, select
from cluster.registry.commands import (
    Command,
    EndExtension,
    Fenced,
    Ok,
    Promote,
    Rejected,
    Result,
    SetInstance,
    Started,
    Unfence,
)
from cluster.registry.values import InstanceId, NodeId, Placement, ProgramEntry
from transport.checkpoint import Version

BECAUSE_CHARS_MAX: Final = 512
Phase = Literal["fencing", "asking", "agreeing", "undoing", "done"]


@dataclass(slots=True)
class Takeover:
    """planned: nothing failed, a person wants it; target: which mirror, "" for the best; then nothing but that will do.
    clean: start the program without a context; nothing serves (first start, or it was stopped). forced: a person wants
    it, whatever the primary is.

    reason: of it all, for people. failed_s: when that happened, as far as is known. refusal: why it came to nothing.
    """

    office: Office
    token: int
    primary: NodeId
    reason: str
    failed_s: float
    began_s: float
    planned: bool = False
    clean: bool = False
    forced: bool = False
    target: InstanceId = ""
    request_id: str = ""
    asked_by: str = ""
    """The request of a person that this is for; it is remembered with what is agreed."""
    because: str = ""
    """Why it is this mirror and no other."""
    phase: Phase = "fencing"
    fence_id: str = ""
    confirmed: bool = False
    agreed_fence: str = ""
    refusal: Rejected | None = None
    final: Version | None = None
    fenced_s: float = 0.0
    asked_s: float = 0.0
    stranded: bool = False
    fallen: bool = False
    """It is started without a context because it failed, not because a person wants it."""
    start_at_s: float = float("-inf")
    """A start without a context is not tried before: it failed a moment ago."""
    wake_s: float = float("inf")
    _repeat_s: float = float("-inf")
    _final_s: float = float("-inf")
    _proposed: set[type] = field(default_factory=set)

    def advance(self, now_s: float, entry: ProgramEntry, facts: Facts, trouble: str) -> list[Order]:
        """Go on as far as possible. trouble: why the primary can't stay, "" if it could."""
        self.wake_s = float("inf")
        orders: list[Order] = []
        if self.phase == "fencing":
            orders += self._fence(now_s, entry, facts, trouble)
        if self.phase == "asking":
            orders += self._ask(now_s, entry, facts, trouble)
        return orders

    def is_fenced(self) -> bool:
        """Whether it is agreed that the primary has no effect any more, and no other one is proposed."""
        return self.phase == "asking" and bool(self.agreed_fence)

    def keeps_lease(self) -> bool:
        """Whether the primary still is granted its lease: it is to be held in good health."""
        return self.planned and self.phase == "fencing"

    def committed(
        self, now_s: float, entry: ProgramEntry, facts: Facts, command: Command, result: Result
    ) -> list[Order]:
        """A command that was proposed here was applied."""
        self._proposed.discard(type(command))
        match command, result:
            case Fenced(), Ok():
                self.agreed_fence = command.fence_id
            case Fenced(), Rejected() if entry.token == self.token and entry.fence is None:
                self.phase, self._repeat_s = "fencing", float("-inf")  # The lease was extended meanwhile.
            case ((Promote() | Started()), Rejected()):
                if isinstance(command, Promote) and result.code == "unfit":
                    facts.excluded[command.instance] = result.reason
                if self.phase == "agreeing":
                    self.phase = "asking"
            case Unfence(), Ok():
                return self._resume(entry, facts)
            case Unfence(), Rejected():
                self.phase = "done"
        return []

    def _wake(self, at_s: float) -> None:
        self.wake_s = min(self.wake_s, at_s)

    def _propose(self, command: Command) -> list[Order]:
        """Propose, unless such a command is on its way already."""
        if type(command) in self._proposed:
            return []
        self._proposed.add(type(command))
        return [Commit(command)]

    # -------------------------------------------------------------------------------------------------------- fencing

    def _fence(self, now_s: float, entry: ProgramEntry, facts: Facts, trouble: str) -> list[Order]:
        self.fence_id = self.fence_id or self.office.name("fence")
        if not entry.primary:
            return self._fenced(now_s, confirmed=True, agreed="")
        if entry.fence is not None:
            return self._fenced(now_s, confirmed=entry.fence.confirmed, agreed=entry.fence.fence_id)
        if self.planned:
            return self._hold(now_s, entry, facts, trouble)
        if not trouble and not self.clean:
            return self._resume(entry, facts)
        if facts.still() or self.fence_id in facts.confirmed or self.clean:
            return self._fenced(now_s, confirmed=True, agreed="")
        if now_s >= self.office.grantor.ended_at_s(entry.program_id):
            if entry.extension is None:
                return self._fenced(now_s, confirmed=False, agreed="")
            name = self.office.name("end-extension")
            extension_id = entry.extension.extension_id
            return self._propose(EndExtension(name, entry.program_id, entry.token, extension_id))
        self._wake(self.office.grantor.ended_at_s(entry.program_id))
        if not self._again(now_s):
            return []
        return [AskFence(entry.primary, entry.program_id, entry.token, self.fence_id)]

    def _hold(self, now_s: float, entry: ProgramEntry, facts: Facts, trouble: str) -> list[Order]:
        if facts.held is not None and facts.held.fence_id == self.fence_id:
            self.final = facts.held.version
            return self._fenced(now_s, confirmed=True, agreed="")
        if trouble:
            return self._give_up(entry, facts, Rejected("unfit", f"the primary failed meanwhile: {trouble}"))
        if facts.refused is not None:
            return self._give_up(entry, facts, Rejected("unfit", f"the primary is not held: {facts.refused.reason}"))
        limit_s = self.began_s + self.office.patience.switch_s
        if now_s >= limit_s:
            return self._give_up(entry, facts, Rejected("unfit", "the primary did not come to a stop in time"))
        self._wake(limit_s)
        if not self._again(now_s):
            return []
        return [SwitchOn(entry.primary, entry.program_id, entry.token, self.fence_id)]

    def _again(self, now_s: float) -> bool:
        """Whether an order is to be given, for the first time or again."""
        due = now_s >= self._repeat_s
        if due:
            self._repeat_s = now_s + self.office.patience.repeat_s
        self._wake(self._repeat_s)
        return due

    def _fenced(self, now_s: float, *, confirmed: bool, agreed: str) -> list[Order]:
        self.phase, self.confirmed, self.agreed_fence = "asking", confirmed, agreed
        self.fenced_s, self.asked_s, self._repeat_s = now_s, now_s, float("-inf")
        return []

    # --------------------------------------------------------------------------------------------------------- asking

    def _ask(self, now_s: float, entry: ProgramEntry, facts: Facts, trouble: str) -> list[Order]:
        orders: list[Order] = []
        if not self.agreed_fence and entry.fence is not None:
            self.agreed_fence = entry.fence.fence_id
        if self.final is None and facts.ended is not None:
            self.final = facts.ended.final
        if not self.agreed_fence and entry.primary:
            fenced = self._propose(self._is_fenced_now(entry))
            if fenced and (best := self._beyond_doubt(now_s, entry, facts, trouble)) is not None:
                return fenced + self._promote(now_s, entry, best)
            orders += fenced
        nodes = tuple(
            one.node for one in entry.instances if one.node != entry.primary and not self.office.lost(now_s, one.node)
        )
        if self._repeat_s == float("-inf"):
            facts.answered.clear()
        missing = tuple(node for node in nodes if node not in facts.answered)
        if missing and not self.clean and self._again(now_s):
            orders.append(AskMirrors(entry.program_id, missing, self.final))
        if self.agreed_fence or not entry.primary:
            orders += self._decide(now_s, entry, facts, trouble, missing)
        return orders

    def _is_fenced_now(self, entry: ProgramEntry) -> Fenced:
        name, term = self.office.name("fenced"), self.office.term
        return Fenced(name, entry.program_id, entry.token, entry.primary, self.fence_id, self.confirmed, term)

    def _beyond_doubt(self, now_s: float, entry: ProgramEntry, facts: Facts, trouble: str) -> Held | None:
        """The mirror that is to be promoted whatever the others say; None: they must be asked."""
        if self._proposed & {Promote, Started} or self.clean or not (trouble or self.planned):
            return None
        if self.final is None or self._exhausted(now_s, entry):
            return None
        best, _ = self._choose(now_s, entry, facts)
        return best if self._is_enough(entry, best) else None

    def _choose(self, now_s: float, entry: ProgramEntry, facts: Facts) -> tuple[Held | None, Choice]:
        """The mirror to promote as things are: the one that is asked for if it will do, else the best."""
        held = {name: one for name, one in facts.mirrors.items() if self._counts(entry, facts, one)}
        choice = select(entry, held, self.office.reachable(now_s), facts.excluded, self.office.drained())
        self.because = choice.because
        if not self.target:
            return choice.best, choice
        self.because = "a person asked for it"
        return (held.get(self.target) if self.target not in choice.against else None), choice

    def _decide(
        self, now_s: float, entry: ProgramEntry, facts: Facts, trouble: str, missing: tuple[NodeId, ...]
    ) -> list[Order]:
        if self._proposed & {Promote, Started}:
            return []
        if self.clean:
            return self._start(now_s, entry, facts)
        if not self.planned and not trouble and facts.primary_report(entry) is not None:
            return self._undo(entry, facts)
        patience = self.office.patience
        best, choice = self._choose(now_s, entry, facts)
        if missing and now_s < self.asked_s + patience.answers_s and not self._is_enough(entry, best):
            self._wake(self.asked_s + patience.answers_s)
            return []
        limit_s = self.asked_s + patience.final_s
        if best is not None and now_s < limit_s and self._is_a_makeshift(now_s, entry, facts, best):
            return self._ask_for_final(now_s, entry, limit_s)
        if self.final is not None and (best is None or best.version != self.final):
            if now_s < limit_s:
                return self._ask_for_final(now_s, entry, limit_s)
            if self.planned:
                return self._undo(entry, facts, Rejected("unfit", "no mirror got the last checkpoint in time"))
        if best is not None and not self._exhausted(now_s, entry):
            return self._promote(now_s, entry, best)
        if best is None and self.forced and not self._may_come_back(now_s, entry, facts):
            why = choice.against.get(self.target, "none is up to date") if self.target else "none is up to date"
            return self._undo(entry, facts, Rejected("unfit", f"no mirror will do: {why}"))
        if best is None and self._may_come_back(now_s, entry, facts):
            return []
        return self._without_a_mirror(now_s, entry, facts, loud=best is not None)

    def _ask_for_final(self, now_s: float, entry: ProgramEntry, limit_s: float) -> list[Order]:
        """The last checkpoint is on its way to the mirrors: ask again and again, every millisecond counts."""
        orders: list[Order] = []
        if now_s >= self._final_s:
            self._final_s = now_s + self.office.patience.final_again_s
            nodes = [one.node for one in entry.instances if one.node != entry.primary]
            there = tuple(node for node in nodes if not self.office.lost(now_s, node))
            orders.append(AskMirrors(entry.program_id, there, self.final))
        self._wake(min(limit_s, self._final_s))
        return orders

    def _counts(self, entry: ProgramEntry, facts: Facts, held: Held) -> bool:
        """What was said since the fence; and who had the last checkpoint before has it still: nothing follows it."""
        if self.final is not None and held.version == self.final:
            return True
        return any(one.instance == held.instance and one.node in facts.answered for one in entry.instances)

    def _is_enough(self, entry: ProgramEntry, best: Held | None) -> bool:
        """Whether no answer that is missing could name a better one."""
        if best is None or self.final is None or best.version != self.final:
            return False
        return bool(self.target) or not self._is_drained(entry, best)

    def _is_drained(self, entry: ProgramEntry, held: Held) -> bool:
        return any(one.instance == held.instance and one.node in self.office.drained() for one in entry.instances)

    def _is_a_makeshift(self, now_s: float, entry: ProgramEntry, facts: Facts, best: Held) -> bool:
        """Whether it is on a drained node, nobody asked for it, and one that is not may have as much in a moment."""
        if not self.planned or self.target or self.final is None or not self._is_drained(entry, best):
            return False
        return any(
            one.node not in (entry.primary, *self.office.drained())
            and one.role == "mirror"
            and one.status == "mirrored"
            and one.instance not in facts.excluded
            and not self.office.lost(now_s, one.node)
            for one in entry.instances
        )

    def _exhausted(self, now_s: float, entry: ProgramEntry) -> bool:
        """Whether this state has been taken over so often that it is the state itself which fails."""
        oldest_s = now_s + self.office.wall_ahead_s - entry.policy.takeovers_window_s
        recent = [at_s for at_s in entry.takeovers if at_s > oldest_s]
        return not self.planned and not self.forced and len(recent) >= entry.policy.takeovers_max

    def _may_come_back(self, now_s: float, entry: ProgramEntry, facts: Facts) -> bool:
        """Whether to wait for a mirror that was up to date and does not answer; a start anew would forget all."""
        limit_s = self.asked_s + self.office.patience.mirrors_s
        hoped = any(
            one.role == "mirror"
            and one.status == "mirrored"
            and one.node not in facts.answered
            and one.instance not in facts.excluded
            and one.instance == (self.target or one.instance)
            and not (self.forced and self.office.lost(now_s, one.node))  # What serves goes on instead.
            for one in entry.instances
        )
        if not hoped or now_s >= limit_s:
            return False
        self._wake(limit_s)
        return True

    def _promote(self, now_s: float, entry: ProgramEntry, best: Held) -> list[Order]:
        self.phase = "agreeing"
        wall_s = 0 if self.planned or self.forced else self._wall_s(now_s)
        promotion = self._propose(
            Promote(
                self.office.name("promote"),
                entry.program_id,
                entry.token,
                best.instance,
                best.version,
                self.agreed_fence or self.fence_id,
                self.reason,
                self.office.term,
                wall_s,
                self.asked_by,
                self.because[:BECAUSE_CHARS_MAX],
            )
        )
        return [*promotion, *self._get_ready(entry, best)]

    def _get_ready(self, entry: ProgramEntry, best: Held) -> list[Order]:
        """Only at the very last checkpoint: of any other one a later one may still come."""
        if best.version != self.final:
            return []
        node = Placement.parse(best.instance).node
        return [GetReadyOn(node, entry.program_id, entry.token + 1, best.version)]

    def _wall_s(self, now_s: float) -> int:
        """CLOCK_REALTIME, in whole seconds; never 0, which means that nothing failed."""
        return max(1, int(now_s + self.office.wall_ahead_s))

    def _without_a_mirror(self, now_s: float, entry: ProgramEntry, facts: Facts, *, loud: bool) -> list[Order]:
        if entry.policy.restart == "always":
            reason = f"{'too many takeovers' if loud else 'no mirror'}: {self.reason}"
            note = Note(entry.program_id, f"it is started without its context: {reason}", entry.token)
            self.clean, self.fallen, self.reason = True, True, reason
            return [note, *self._start(now_s, entry, facts)]
        if self.stranded:
            return []
        self.stranded = True
        one = entry.primary_instance
        orders: list[Order] = [Note(entry.program_id, f"nothing serves, and nothing will: {self.reason}", entry.token)]
        if one is not None:
            name = self.office.name("set-instance")
            reason = f"no mirror, and restart is never: {self.reason}"
            orders.append(
                Commit(
                    SetInstance(
                        name,
                        entry.program_id,
                        one.instance,
                        "primary",
                        "failed",
                        one.incarnation,
                        reason,
                        self.office.term,
                    )
                )
            )
        return orders

    def _start(self, now_s: float, entry: ProgramEntry, facts: Facts) -> list[Order]:
        """Start it without a context: where it was, if that node is there and did not fail at it; else on the next."""
        if now_s < self.start_at_s:
            self._wake(self.start_at_s)
            return []
        there = [one for one in entry.instances if not self.office.lost(now_s, one.node)]
        best = [one for one in there if one.instance not in facts.excluded] or there
        best = [one for one in best if one.node not in self.office.drained()] or best
        if not best:
            return []
        chosen = next((one for one in best if one.node == entry.primary), best[0])
        self.phase = "agreeing"
        return self._propose(
            Started(
                self.office.name("started"),
                entry.program_id,
                entry.token,
                chosen.instance,
                self.agreed_fence if entry.primary else "",
                self.reason,
                self.office.term,
                self._wall_s(now_s) if self.fallen else 0,
                self.asked_by,
            )
        )

    # -------------------------------------------------------------------------------------------------------- undoing

    def _give_up(self, entry: ProgramEntry, facts: Facts, refusal: Rejected) -> list[Order]:
        self.refusal = refusal
        return self._resume(entry, facts)

    def _undo(self, entry: ProgramEntry, facts: Facts, refusal: Rejected | None = None) -> list[Order]:
        self.refusal = refusal
        self.phase = "undoing"
        name = self.office.name("unfence")
        return self._propose(Unfence(name, entry.program_id, entry.token, self.agreed_fence, self.office.term))

    def _resume(self, entry: ProgramEntry, facts: Facts) -> list[Order]:
        self.phase = "done"
        report = facts.primary_report(entry)
        fences = {self.fence_id, self.agreed_fence, report.fence_id if report is not None else ""} - {""}
        return [ResumeOn(entry.primary, entry.program_id, entry.token, fence) for fence in sorted(fences)]
