"""Puts the questions of one program's health checks, and tells the verdict what was answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from cluster.health import command, connection
from cluster.health.check import Check, Exchange, Exec, Http, Question, Tcp
from cluster.health.verdict import Answered, Ask, Begin, Due, Effect, Event, Forget, GoOn, Still, Tell, Verdict

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked. host: address at which the program serves. pid: its process, as this node sees it."""

    program: str
    host: str
    address: str
    pid: int


async def ask(question: Question, target: Target) -> str:
    """Put one question; gives why there is no good answer, "" for one. Takes as long as it takes: cancel it."""
    try:
        match question:
            case Tcp():
                return await connection.connect(target.host, question)
            case Exchange():
                return await connection.exchange(target.host, question)
            case Http():
                return await connection.http(target.host, question)
            case Exec():
                names = {"PROGRAM": target.program, "ADDRESS": target.address, "PID": str(target.pid)}
                return await command.run(question, {f"KAGEMUSHA_{name}": text for name, text in names.items()})
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)


class Patrol:
    """All checks of one primary. is_still: whether it is kept still on purpose now. changed: the verdict is another.
    answered: hears of each answer, by the name of the check.

    Everything belongs to the event loop. In the end: `close`.
    """

    def __init__(
        self,
        target: Target,
        checks: Iterable[Check],
        is_still: Callable[[], bool],
        changed: Callable[[], None],
        *,
        anew: bool,
        answered: Callable[[str, bool], None] = lambda check, good: None,
    ) -> None:
        self._target = target
        self._verdict = Verdict(tuple(checks))
        self._is_still = is_still
        self._was_still = False
        self._changed = changed
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._step(Begin(anew))

    @property
    def reason(self) -> str:
        """Why the program counts as failed, "" while it is well."""
        return self._verdict.reason

    def look(self) -> None:
        """See whether the program is kept still by now, or goes on."""
        still = self._is_still()
        if still != self._was_still:
            self._was_still = still
            self._step(Still() if still else GoOn())

    def close(self) -> None:
        """Ask nothing more; what was asked is ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._forget()

    def _step(self, event: Event) -> None:
        self._perform(self._verdict.step(self._loop.time(), event))
        if self._timer is not None:
            self._timer.cancel()
        due_s = self._verdict.due_s
        self._timer = None if due_s is None else self._loop.call_at(due_s, self._due)

    def _due(self) -> None:
        self.look()
        self._step(Due())

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Forget():
                    self._forget()
                case Ask():
                    task = asyncio.create_task(self._ask(effect))
                    self._asked.add(task)
                    task.add_done_callback(self._asked.discard)
                case Tell(reason):
                    if reason:
                        log.warning("a program does not serve any more", program=self._target.program, reason=reason)
                    else:
                        log.info("a program serves again", program=self._target.program)
                    self._changed()

    def _forget(self) -> None:
        for task in tuple(self._asked):
            task.cancel()

    async def _ask(self, question: Ask) -> None:
        check, silent = self._verdict.checks[question.check], False
        try:
            async with asyncio.timeout(check.timeout_s):
                reason = await ask(check.question, self._target)
        except TimeoutError:
            reason, silent = f"no answer within {check.timeout_s * 1000:g} ms", True
        self._answered(check.name, not reason)
        # What was answered while it was kept still does not count, however short that was.
        self.look()
        self._step(Answered(question.check, question.number, reason, silent))
