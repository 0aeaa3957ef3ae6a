"""One agent is killed while clients write: what became of its program, of their connections, and of what they wrote."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from kagemusha.demo.client import Client
from kagemusha.demo.nodes import ADDRESS
from kagemusha.demo.story import PORT
from tests.agent_kills.moment import Moment, kill_at
from tests.cluster.trio import DEADLINE_S, Trio
from tests.restarts.restart import Clients

NS_PER_MS = 1e6
LEFT_MAX = 1
"""An agent reads one connection at a time."""


@dataclass(frozen=True, slots=True)
class Kill:
    """What came of one. ran_on: the same process serves under the same token. after_ms: the moment.

    found: connections that were taken out of repair mode afterwards. problems: replies that can't be, of a program
    whose memory is not what it was.
    """

    moment: Moment
    after_ms: float
    ran_on: bool
    connections: int
    survived: int
    reset: int
    hung: int
    writes_acknowledged: int
    writes_lost: int
    gap_ms: float
    mirrored_s: float
    found: int
    problems: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the program is what it was: it runs on, with all that was written and all of its connections but the
        one that was being read; or it died with the agent that had borrowed a thread of it, and a mirror goes on."""
        if self.problems:
            return False
        if not self.ran_on:
            return not self.hung
        return not self.writes_lost and self.connections - self.survived <= LEFT_MAX


class Stage:
    """A cluster whose redis is written to."""

    def __init__(self, cluster: Trio, clients: Clients) -> None:
        self._cluster = cluster
        self._clients = clients
        self._client = Client(cluster.machines.client, cluster.directory.logs / "client.log")

    async def open(self, memory_mib: int) -> None:
        """Fill redis, connect the clients, let them write."""
        one = self._clients
        await self._client.start()
        await self._client.ask("fill", deadline_s=DEADLINE_S, host=ADDRESS, port=PORT, mib=memory_mib)
        await self._client.ask("connect", host=ADDRESS, port=PORT, idle=one.idle, busy=one.busy, anew=one.anew)
        await self._client.ask("rate", per_second=one.writes_per_second)
        await self._cluster.served()

    async def close(self) -> None:
        """End the clients."""
        await self._client.close()

    async def kill(self, moment: Moment, dice: random.Random) -> Kill:
        """Kill the primary's agent at this moment; of a successor's work, the one that follows the first one killed."""
        await self._client.ask("ping")
        before = await self._redis()
        pid = self._cluster.pid_of_redis(before["primary"])
        found = self._found()
        event_ns = time.monotonic_ns()
        try:
            if moment in ("attach", "begin"):
                await asyncio.to_thread(kill_at, "anytime", pid, dice)
            after_ms = await asyncio.to_thread(kill_at, moment, pid, dice)
        except OSError:
            after_ms = -1.0  # the first kill was the end of the program already
        await self._cluster.served()
        mirrored_s = (time.monotonic_ns() - event_ns) / 1e9
        answer = await self._client.ask("settle", event_ns=event_ns)
        outcome = answer["outcome"]
        after = await self._redis()
        return Kill(
            moment=moment,
            after_ms=round(after_ms, 3),
            ran_on=after["token"] == before["token"] and self._cluster.pid_of_redis(after["primary"]) == pid,
            connections=outcome["idle"] + outcome["busy"],
            survived=outcome["idle_survived"] + outcome["busy_survived"],
            reset=outcome["reset"],
            hung=outcome["hung"],
            writes_acknowledged=outcome["writes_acknowledged"],
            writes_lost=outcome["writes_lost"],
            gap_ms=round((outcome["gap_ns"] or 0) / NS_PER_MS, 1),
            mirrored_s=round(mirrored_s, 3),
            found=self._found() - found,
            problems=(*outcome["foreign"], *(f"connection {name} has no reply since" for name in outcome["silent"])),
        )

    async def _redis(self) -> dict[str, Any]:
        view = await self._cluster.until(lambda view: "redis" in view["programs"], "there is a leader")
        redis: dict[str, Any] = view["programs"]["redis"]
        return redis

    def _found(self) -> int:
        """How many times helpers and successors have said that they found something in repair mode."""
        logs = self._cluster.directory.nodes.glob("*/**/*.log")
        return sum(log.read_text(errors="replace").count("that a killed agent was reading") for log in logs)
