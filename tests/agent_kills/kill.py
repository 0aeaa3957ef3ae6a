"""One agent is killed while clients write: what became of its program, of their connections, and of what they wrote."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass

from tests.agent_kills.moment import Moment, kill_at
from tests.restarts.written_redis import Seen, WrittenRedis

LEFT_MAX = 1
"""An agent reads one connection at a time."""


@dataclass(frozen=True, slots=True)
class Kill(Seen):
    """What came of one. ran_on: the same process serves under the same token. after_ms: the moment.

    found: connections that were taken out of repair mode afterwards. Of a program whose memory is not what it was, some
    replies can't be (`problems`).
    """

    moment: Moment
    after_ms: float
    ran_on: bool
    mirrored_s: float
    found: int

    @property
    def kept(self) -> bool:
        """Whether the program is what it was: it runs on, with all that was written and all of its connections but the
        one that was being read; or it died with the agent that had borrowed a thread of it, and a mirror goes on."""
        if self.problems:
            return False
        if not self.ran_on:
            return not self.hung
        return not self.writes_lost and self.connections - self.survived <= LEFT_MAX


class Stage(WrittenRedis):
    """Whose primary loses its agent."""

    async def kill(self, moment: Moment, dice: random.Random) -> Kill:
        """Kill the primary's agent at this moment; of a successor's work, the one that follows the first one killed."""
        await self.client.ask("ping")
        before = await self.entry()
        pid = self.cluster.pid_of_redis(before["primary"])
        found = self._found()
        event_ns = time.monotonic_ns()
        try:
            if moment in ("attach", "begin"):
                await asyncio.to_thread(kill_at, "anytime", pid, dice)
            after_ms = await asyncio.to_thread(kill_at, moment, pid, dice)
        except OSError:
            after_ms = -1.0  # the first kill was the end of the program already
        await self.cluster.served()
        mirrored_s = (time.monotonic_ns() - event_ns) / 1e9
        seen = await self.seen(event_ns)
        after = await self.entry()
        return Kill(
            **asdict(seen),
            moment=moment,
            after_ms=round(after_ms, 3),
            ran_on=after["token"] == before["token"] and self.cluster.pid_of_redis(after["primary"]) == pid,
            mirrored_s=round(mirrored_s, 3),
            found=self._found() - found,
        )

    def _found(self) -> int:
        """How many times helpers and successors have said that they found something in repair mode."""
        logs = self.cluster.directory.nodes.glob("*/**/*.log")
        return sum(log.read_text(errors="replace").count("that a killed agent was reading") for log in logs)
