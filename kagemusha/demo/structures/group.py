"""Three nodes as one cluster: their daemons, and an operator for each program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from cluster.admin.auth import entry_text, make_token
from kagemusha.demo.cluster.daemon import ADMIN_PORT, Daemon, node_toml
from kagemusha.demo.cluster.operator import Operator
from kagemusha.demo.cluster.waiting import until
from kagemusha.demo.nodes import Machines
from kagemusha.demo.story import FIRST_NODE
from transport.pki import AUTHORITY_CERTIFICATE, Authority

CLUSTER_S = 60.0


class Group:
    """The cluster of a run. `of`: who asks for a program, by its id."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.daemons = {name: Daemon(node) for name, node in machines.nodes.items()}
        self.of: dict[str, Operator] = {}

    async def start(self, programs: Iterable[str]) -> str:
        """Certificates, settings and daemons; the name of the node that leads."""
        token = self._furnish()
        for daemon in self.daemons.values():
            await daemon.start()
        for program in programs:
            self.of[program] = await self._arrived(token, program)
        operator = next(iter(self.of.values()))
        leads: list[str] = []

        async def is_whole() -> bool:
            nodes = await operator.nodes()
            leads[:] = [one["node"] for one in nodes if one["leader"]]
            return bool(leads) and all(one["alive"] for one in nodes)

        await self.until(is_whole, CLUSTER_S, "the nodes do not come together")
        return leads[0]

    def _furnish(self) -> str:
        authority = Authority.create("demo")
        token, digest = make_token()
        nodes = self._machines.nodes.values()
        for node in nodes:
            authority.issue(node.name).save(node.own_path("pki")[0])
            node.own_path("node.toml")[0].write_text(node_toml(node, nodes))
            node.own_path("tokens.toml")[0].write_text(entry_text("demo", "admin", digest))
        return token

    async def _arrived(self, token: str, program: str) -> Operator:
        nodes = self._machines.nodes
        endpoints = [f"{node.address}:{ADMIN_PORT}" for node in nodes.values()]
        authority = nodes[FIRST_NODE].own_path("pki")[0] / AUTHORITY_CERTIFICATE
        operator = Operator(endpoints, token, authority, self._machines.directory.logs, program)
        await operator.arrive(self._machines.client)
        return operator

    async def until(self, is_so: Callable[[], Awaitable[bool]], deadline_s: float, what: str) -> None:
        """See `waiting.until`."""
        path = self._machines.directory.path
        await until(is_so, deadline_s, what, daemons=self.daemons.values(), logs=path)

    async def close(self) -> None:
        """Forget the processes, which are dead by now or die here."""
        for operator in self.of.values():
            await operator.close()
        for daemon in self.daemons.values():
            await daemon.close()
            daemon.remove_cgroups(self.of)
