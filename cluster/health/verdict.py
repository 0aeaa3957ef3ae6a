"""What the answers to health checks mean: when to ask, and when a program counts as failed. Pure.

A program is well until one of its checks has failed `fall` times in a row, and unwell until all have succeeded `rise`
times in a row since. Four things count for nothing:

- answers while the program is kept still (it has no lease, or is fenced): it can't answer then. What was asked before
  is forgotten, the verdict stays.
- a failure by silence, where the asker itself was late: it may have slept through the answer.
- failures after a start without a context, for the time that the check allows.
- answers of a primary that is no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cluster.health.check import Check

LATE_S: Final = 0.020
"""An asker that comes back later than this after a timeout was not scheduled: it blames nobody but itself."""


@dataclass(frozen=True, slots=True)
class Begin:
    """There is a primary that serves. anew: it was started without a context."""

    anew: bool


@dataclass(frozen=True, slots=True)
class Still:
    """It is kept still on purpose, until `GoOn`."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """It serves again."""


@dataclass(frozen=True, slots=True)
class Due:
    """`due_s` has come."""


@dataclass(frozen=True, slots=True)
class Answered:
    """To `Ask(check, number)`. reason: why that is no good answer, "" for a good one. silent: there was none in
    time."""

    check: int
    number: int
    reason: str = ""
    silent: bool = False


Event = Begin | Still | GoOn | Due | Answered


@dataclass(frozen=True, slots=True)
class Ask:
    """Put this question; then `Answered`, within its timeout."""

    check: int
    number: int


@dataclass(frozen=True, slots=True)
class Forget:
    """What was asked and is not answered has no meaning any more: end it."""


@dataclass(frozen=True, slots=True)
class Tell:
    """The verdict has changed. reason: why the program counts as failed, "" when it is well."""

    reason: str


Effect = Ask | Forget | Tell


@dataclass(slots=True)
class _Row:
    """The answers to one check. good, bad: in a row. reason: why it has failed, "" if it has not."""

    check: Check
    due_s: float = float("inf")
    asked_s: float | None = None
    number: int = 0
    good: int = 0
    bad: int = 0
    forgiven_until_s: float = float("-inf")
    reason: str = ""


@dataclass(slots=True)
class Verdict:
    """On one program. reason: why it counts as failed, "" when it is well."""

    checks: Sequence[Check]
    reason: str = ""
    _rows: list[_Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rows = [_Row(check) for check in self.checks]

    @property
    def due_s(self) -> float | None:
        """When `Due` is to be told; None: nothing is waited for but answers."""
        times_s = [row.due_s for row in self._rows if row.asked_s is None and row.due_s < float("inf")]
        return min(times_s, default=None)

    def step(self, now_s: float, event: Event) -> list[Effect]:
        """Take in one event; return what is to be done, in this order. now_s: of a clock that does not go back."""
        match event:
            case Begin(anew):
                self._rows = [_Row(check) for check in self.checks]
                for row in self._rows:
                    row.forgiven_until_s = now_s + row.check.start_s if anew else float("-inf")
                return [Forget(), *self._spread(now_s), *self._judge()]
            case Still():
                for row in self._rows:
                    row.good = row.bad = 0
                    row.asked_s, row.due_s = None, float("inf")
                return [Forget()]
            case GoOn():
                return self._spread(now_s)
            case Due():
                return self._ask(now_s)
            case Answered():
                self._answered(now_s, event)
                return self._judge()

    def _spread(self, now_s: float) -> list[Effect]:
        """The first questions: one interval from now, and not all in the same moment."""
        for place, row in enumerate(self._rows):
            row.due_s = now_s + row.check.interval_s * (1 - place / (2 * len(self._rows)))
        return []

    def _ask(self, now_s: float) -> list[Effect]:
        asked: list[Effect] = []
        for place, row in enumerate(self._rows):
            if row.asked_s is None and row.due_s <= now_s:
                row.number += 1
                row.asked_s = now_s
                # In its rhythm; who comes late does not make up for what was left out.
                row.due_s += row.check.interval_s
                if row.due_s <= now_s:
                    row.due_s = now_s + row.check.interval_s
                asked.append(Ask(place, row.number))
        return asked

    def _answered(self, now_s: float, answer: Answered) -> None:
        row = self._rows[answer.check]
        if answer.number != row.number or row.asked_s is None:
            return
        slept = answer.silent and now_s - row.asked_s > row.check.timeout_s + LATE_S
        row.asked_s = None
        if slept:
            return
        if not answer.reason:
            row.good, row.bad = row.good + 1, 0
            row.forgiven_until_s = float("-inf")
            if row.good >= row.check.rise:
                row.reason = ""
        elif now_s >= row.forgiven_until_s:
            row.good, row.bad = 0, row.bad + 1
            if row.bad >= row.check.fall:
                row.reason = f"{row.check.name}: {answer.reason}, {row.bad} times in a row"

    def _judge(self) -> list[Effect]:
        reason = "; ".join(row.reason for row in self._rows if row.reason)
        if bool(reason) == bool(self.reason):
            return []
        self.reason = reason
        return [Tell(reason)]
