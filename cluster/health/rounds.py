"""The patrols of a node: one for each primary that serves here and has health checks, for as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from cluster.health.patrol import Patrol, Target
from cluster.metrics.tally import Tally
from cluster.node.program import ProgramFile, ReadProgramFile
from cluster.registry.values import ProgramId
from transport.errors import ConfigError

log = structlog.get_logger()

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Primary:
    """One that serves here. is_still: whether it is kept still on purpose at this moment."""

    program: ProgramId
    token: int
    pid: int
    config_file: str
    is_still: Callable[[], bool] = field(compare=False)


@dataclass(slots=True)
class _Post:
    """primary: who is looked after. patrol: None until its file was read, and where it has no checks."""

    primary: Primary
    reading: asyncio.Task[None] | None = None
    patrol: Patrol | None = None

    def end(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
        if self.patrol is not None:
            self.patrol.close()


class Rounds:
    """`look` again and again, in the end `close`. changed: a verdict is another. tally: counts the answers."""

    def __init__(self, read_program: ReadProgramFile, changed: Callable[[], None], tally: Tally) -> None:
        self._read_program = read_program
        self._changed = changed
        self._tally = tally
        self._anew: dict[ProgramId, int] = {}
        self._posts: dict[ProgramId, _Post] = {}

    def started_anew(self, program: ProgramId, token: int) -> None:
        """Under this token the program is started without a context."""
        self._anew[program] = token

    def reason(self, program: ProgramId) -> str:
        """Why the primary here counts as failed, "" while it is well, or nothing is known."""
        post = self._posts.get(program)
        return post.patrol.reason if post is not None and post.patrol is not None else ""

    def is_healthy(self, program: ProgramId) -> bool | None:
        """Whether the primary here passes its checks; None: it has none, or none serves here."""
        post = self._posts.get(program)
        return not post.patrol.reason if post is not None and post.patrol is not None else None

    def look(self, primaries: Iterable[Primary]) -> None:
        """See who serves here by now, and who is kept still."""
        seen = {primary.program: primary for primary in primaries}
        for program, post in tuple(self._posts.items()):
            if seen.get(program) != post.primary:
                del self._posts[program]
                post.end()
        for program, primary in seen.items():
            if program not in self._posts:
                post = self._posts[program] = _Post(primary)
                post.reading = asyncio.create_task(self._begin(post))
            elif (patrol := self._posts[program].patrol) is not None:
                patrol.look()

    def close(self) -> None:
        """Ask nobody any more."""
        self.look(())

    async def _begin(self, post: _Post) -> None:
        primary = post.primary
        try:
            file: ProgramFile = await asyncio.to_thread(self._read_program, Path(primary.config_file))
        except ConfigError as error:
            log.error("no health checks", program=primary.program, reason=error.what, hint=error.hint)
            return
        if file.checks:
            host = file.address.partition("/")[0]
            target = Target(primary.program, host or LOOPBACK, host, primary.pid)
            anew = self._anew.get(primary.program) == primary.token

            def answered(check: str, good: bool) -> None:
                result = "good" if good else "failed"
                self._tally.count("kagemusha_health_checks_total", primary.program, check, result)

            post.patrol = Patrol(target, file.checks, primary.is_still, self._changed, anew=anew, answered=answered)
