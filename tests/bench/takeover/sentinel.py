"""Redis Sentinel, as a peer: a primary and two replicas, a sentinel on each node, set to notice after 100 ms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Final

from kagemusha.demo.display import Display
from kagemusha.demo.nodes import Machines
from kagemusha.demo.story import PORT
from tests.bench.takeover.peer import Peer, PeerKind, fields, redis_says
from tests.bench.takeover.stage import NODES, Load

DOWN_AFTER_MS: Final = 100
FAILOVER_TIMEOUT_MS: Final = 1000
_NAME: Final = "bench"
_SENTINEL_PORT: Final = 26379
_QUORUM: Final = 2


class Sentinel(Peer):
    """Replication is asynchronous, as redis has it by itself."""

    name = "Redis Sentinel"
    client_module = "tests.bench.takeover.sentinel_clients"

    def __init__(self, display: Display, machines: Machines, load: Load) -> None:
        super().__init__(display, machines, load)
        self._sentinels: dict[str, object] = {}

    async def start(self) -> None:
        """See `Peer`."""
        first, *others = NODES
        await self.start_redis(first)
        for name in others:
            await self.start_redis(name, *self._replica_of(first))
        for name in NODES:
            (self.machines.nodes[name].own / "sentinel.conf").write_text(self._config(first))
            await self._start_sentinel(name)

    async def start_node(self, name: str, kind: PeerKind) -> None:
        """See `Peer`."""
        await self.until(self._has_moved_from(name), "nobody is promoted")
        await self.start_redis(name, *self._replica_of(await self.primary()))
        if kind == "node_killed":
            await self._start_sentinel(name)

    async def primary(self) -> str:
        """See `Peer`. As most of the sentinels say."""
        said = [(await self._ask(name, "get-master-addr-by-name", _NAME)).split() for name in NODES]
        hosts = [words[0] for words in said if words]
        by_address = {node.address: name for name, node in self.machines.nodes.items()}
        agreed = [host for host in hosts if hosts.count(host) >= _QUORUM]
        return by_address[agreed[0]] if agreed else ""

    async def is_whole(self) -> bool:
        """See `Peer`."""
        for name in NODES:
            known = fields(await self._ask(name, "master", _NAME), "\n")
            counts = [known.get(key) for key in ("num-slaves", "num-other-sentinels")]
            if known.get("flags") != "master" or counts != ["2", "2"]:
                return False
            # One that a sentinel can promote is enough: whoever came back is looked at every ten seconds only.
            replicas = await self._ask(name, "replicas", _NAME)
            if ("flags", "slave") not in pairwise(replicas.splitlines()):
                return False
        primary = await self.primary()
        if not primary:
            return False
        address = self.machines.nodes[primary].address
        info = fields(await redis_says(self.machines.client, address, PORT, "INFO", "replication"), ":")
        return all("state=online" in info.get(replica, "") for replica in ("slave0", "slave1"))

    async def tell_clients(self) -> None:
        """See `Peer`. A node that was dead has a sentinel that nobody listens to yet."""
        sentinels = [(node.address, _SENTINEL_PORT) for node in self.machines.nodes.values()]
        await self.ask("subscribe", name=_NAME, sentinels=sentinels)

    def _has_moved_from(self, name: str) -> Callable[[], Awaitable[bool]]:
        async def has_moved() -> bool:
            return await self.primary() not in ("", name)

        return has_moved

    async def _start_sentinel(self, name: str) -> None:
        config = self.machines.directory.node / "sentinel.conf"
        self._sentinels[name] = await self.start_server(name, "sentinel", "redis-server", str(config), "--sentinel")

    async def _ask(self, node: str, *words: str) -> str:
        address = self.machines.nodes[node].address
        return await redis_says(self.machines.client, address, _SENTINEL_PORT, "SENTINEL", *words)

    def _replica_of(self, name: str) -> list[str]:
        return ["--replicaof", self.machines.nodes[name].address, str(PORT)]

    def _config(self, first: str) -> str:
        return f"""\
port {_SENTINEL_PORT}
bind 0.0.0.0
protected-mode no
sentinel monitor {_NAME} {self.machines.nodes[first].address} {PORT} {_QUORUM}
sentinel down-after-milliseconds {_NAME} {DOWN_AFTER_MS}
sentinel failover-timeout {_NAME} {FAILOVER_TIMEOUT_MS}
sentinel parallel-syncs {_NAME} 2
"""
