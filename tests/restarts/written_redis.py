"""A cluster whose redis is written to, and what its clients saw of something that was done to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kagemusha.demo.client import Client
from kagemusha.demo.nodes import ADDRESS
from kagemusha.demo.story import PORT
from tests.cluster.trio import DEADLINE_S, Trio

NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Clients:
    """How many connections of each kind, and how much they write."""

    idle: int = 20
    busy: int = 20
    anew: int = 5
    writes_per_second: int = 2000


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients saw. connections: idle and busy ones, of which `survived` answered on the very same socket.

    gap_ms: the longest time that a client which wrote had to wait. problems: replies that can't be, and connections
    that have none.
    """

    connections: int
    survived: int
    reset: int
    hung: int
    writes_acknowledged: int
    writes_lost: int
    gap_ms: float
    problems: tuple[str, ...]


class WrittenRedis:
    """The redis of a cluster, and its clients."""

    def __init__(self, cluster: Trio, clients: Clients) -> None:
        self.cluster = cluster
        self.client = Client(cluster.machines.client, cluster.directory.logs / "client.log")
        self._clients = clients

    async def open(self, memory_mib: int) -> None:
        """Fill redis, connect the clients, let them write."""
        one = self._clients
        await self.client.start()
        await self.client.ask("fill", deadline_s=DEADLINE_S, host=ADDRESS, port=PORT, mib=memory_mib)
        await self.client.ask("connect", host=ADDRESS, port=PORT, idle=one.idle, busy=one.busy, anew=one.anew)
        await self.client.ask("rate", per_second=one.writes_per_second)
        await self.cluster.served()

    async def close(self) -> None:
        """End the clients."""
        await self.client.close()

    async def entry(self) -> dict[str, Any]:
        """What the registry has of it, as the leader sees it."""
        view = await self.cluster.until(lambda view: "redis" in view["programs"], "there is a leader")
        redis: dict[str, Any] = view["programs"]["redis"]
        return redis

    async def seen(self, event_ns: int) -> Seen:
        """What the clients saw of what began at `event_ns` (CLOCK_MONOTONIC), once all are served again or given up."""
        outcome = (await self.client.ask("settle", event_ns=event_ns))["outcome"]
        silent = [f"connection {name} has no reply since" for name in outcome["silent"]]
        return Seen(
            connections=outcome["idle"] + outcome["busy"],
            survived=outcome["idle_survived"] + outcome["busy_survived"],
            reset=outcome["reset"],
            hung=outcome["hung"],
            writes_acknowledged=outcome["writes_acknowledged"],
            writes_lost=outcome["writes_lost"],
            gap_ms=round((outcome["gap_ns"] or 0) / NS_PER_MS, 1),
            problems=(*outcome["foreign"], *silent),
        )
