"""Three nodes in namespaces of their own that mirror the structures of a program, which lives on each of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from kagemusha.demo.nodes import Directory, Machines
from tests.agent.warm.two_agents import PORT, SERVICE, Client, definition
from tests.cluster.trio import DEADLINE_S, NAMES, Trio, on_three_machines


class WarmTrio(Trio):
    """The cluster. Its program is `tests.agent.warm.service`, or what `command` says, with `more` in its file."""

    program_id = "warm"
    port = PORT

    def __init__(
        self, directory: Directory, machines: Machines, command: Sequence[str] = SERVICE, more: str = ""
    ) -> None:
        self._command = command
        self._more_of_it = more
        self.clients: list[Client] = []
        super().__init__(directory, machines)

    def _program_toml(self) -> str:
        return definition(self._command, f"\n[failover]\nmax_takeovers = 1000\n{self._more_of_it}")

    def client(self) -> Client:
        """A client's connection. Raises OSError while nobody serves."""
        self.clients.append(Client(self.connect(timeout_s=2.0)))
        return self.clients[-1]

    async def ask(self, *words: str) -> str:
        """What a client is answered that asks until somebody does."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(OSError):
                    client = await asyncio.to_thread(self.client)
                    if answer := await asyncio.to_thread(client.ask, *words):
                        return answer
                await asyncio.sleep(0.01)

    async def pid(self, node: str) -> int:
        """The program's process on a node."""
        seen = await self.daemons[node].ask(do="look", node=node, program=self.program_id)
        return int(seen["pid"])


AnyWarmTrio = TypeVar("AnyWarmTrio", bound=WarmTrio)


@asynccontextmanager
async def warm_trio(command: Sequence[str] = SERVICE, more: str = "") -> AsyncIterator[WarmTrio]:
    """A cluster whose program serves on a and waits on b and c."""
    async with serving(lambda directory, machines: WarmTrio(directory, machines, command, more)) as cluster:
        yield cluster


@asynccontextmanager
async def serving(make: Callable[[Directory, Machines], AnyWarmTrio]) -> AsyncIterator[AnyWarmTrio]:
    """The same of the cluster that `make` makes."""
    async with on_three_machines(make) as cluster:
        for daemon in cluster.daemons.values():
            daemon.start()
        await cluster.until(lambda view: view["nodes"] == list(NAMES), "all nodes are known")
        created = await cluster.daemons["b"].ask(do="create", file=cluster.program, nodes=NAMES)
        assert created == {"value": "warm"}, created
        await cluster.served()
        try:
            yield cluster
        finally:
            for client in cluster.clients:
                client.close()
