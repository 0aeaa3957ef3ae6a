"""When a primary takes its checkpoints, and what it does when its program ends: decisions only.

`step(now_s, event) -> effects`; no clock, no tracee, no network here. The order of effects matters and is kept by the
performer: the address is silenced BEFORE the last checkpoint is taken (what arrives after the sockets were read would
be acknowledged and lost), and the program is let go only AFTER that (its memory ends with it). What else it takes to
drop the address is done when the last checkpoint is on its way. A killed program that gave its last state is let go
when another instance serves, or a little later: to tear down its memory takes the kernel tens of milliseconds of a
processor that the takeover can use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_REST_SHARE = 0.5
_RETRY_S_MIN = 0.005
_CORPSE_S = 0.25


class End(StrEnum):
    """How a program ended. Only KILLED (SIGKILL from outside, out of memory) may be continued from its last state."""

    KILLED = "killed"
    CRASHED = "crashed"
    TERMINATED = "terminated"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class AudienceChanged:
    """So many mirrors are connected now."""

    mirrors: int


@dataclass(frozen=True, slots=True)
class Due:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A checkpoint was taken and encoded; `started_s` is when its work began."""

    started_s: float
    final: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A checkpoint was given up before its deadline; nothing was lost."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The last checkpoint of a dying program could not be taken, or a thread's state is suspect."""

    why: str


@dataclass(frozen=True, slots=True)
class Released:
    """The controller says that another instance serves now."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Every thread of the program stands at its end (KILLED: held there), or it has ended (`status`: wait status)."""

    end: End
    status: int


Event = AudienceChanged | Due | Taken | Abandoned | Refused | Released | Ending


@dataclass(frozen=True, slots=True)
class Take:
    """Take a checkpoint now; `final`: from the dying program."""

    final: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """Let nothing more be said or heard in the name of the program's address on this node."""


@dataclass(frozen=True, slots=True)
class DropAddress:
    """Take the program's address off this node."""


@dataclass(frozen=True, slots=True)
class LetDie:
    """Let the held threads of a dying program go."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the controller how the program ended; `final`: its last state was published."""

    end: End
    status: int
    final: bool
    why: str = ""


Effect = Take | Silence | DropAddress | LetDie | Report


class Primary:
    """The schedule of one primary.

    interval_s: from the start of a checkpoint to the start of the next. After a checkpoint that took long (a program
    that dirties memory faster than it can be mirrored) the program gets at least half of that time undisturbed. Without
    a mirror nothing is captured: the kernel keeps the dirty information.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.due_s: float | None = None
        self.abandoned = 0
        self._mirrors = 0
        self._retries = 0
        self.ending: Ending | None = None

    def step(self, now_s: float, event: Event) -> list[Effect]:
        """Advance by one event at CLOCK_MONOTONIC `now_s`."""
        match event:
            case AudienceChanged(mirrors):
                if mirrors and not self._mirrors:
                    self.due_s = now_s
                self._mirrors = mirrors
                if not mirrors:
                    self.due_s = None
                return []
            case Due():
                return self._due(now_s)
            case Taken(_, True):
                self.due_s = now_s + _CORPSE_S
                return [DropAddress(), *self._report(final=True)]
            case Taken(started_s, _):
                self._retries = 0
                rest_s = (now_s - started_s) * _REST_SHARE
                self._plan(max(started_s + self.interval_s, now_s + rest_s))
                return []
            case Abandoned():
                self.abandoned += 1
                self._plan(now_s + min(self.interval_s, _RETRY_S_MIN * 2**self._retries))
                self._retries = min(self._retries + 1, 10)
                return []
            case Refused(why):
                return [DropAddress(), *self._report(final=False, why=why), LetDie()]
            case Released():
                return self._bury()
            case Ending():
                return self._end(event)

    def _plan(self, due_s: float) -> None:
        self.due_s = due_s if self._mirrors and self.ending is None else None

    def _due(self, now_s: float) -> list[Effect]:
        if self.due_s is None or now_s < self.due_s:
            return []
        return self._bury() if self.ending is not None else [Take()]

    def _bury(self) -> list[Effect]:
        """Let a corpse go that has been kept."""
        kept = self.ending is not None and self.due_s is not None
        self.due_s = None if kept else self.due_s
        return [LetDie()] if kept else []

    def _end(self, event: Ending) -> list[Effect]:
        if self.ending is not None:
            return []
        self.ending = event
        self.due_s = None
        if event.end is End.KILLED and self._mirrors:
            return [Silence(), Take(final=True)]
        return [DropAddress(), *self._report(final=False), LetDie()]

    def _report(self, *, final: bool, why: str = "") -> list[Effect]:
        if self.ending is None:
            return []
        return [Report(self.ending.end, self.ending.status, final, why)]
