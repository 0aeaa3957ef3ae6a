"""Three nodes as one cluster: their daemons, and an operator for each program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kagemusha.demo.cluster.daemon import Daemon
from kagemusha.demo.cluster.furnishing import arrived, furnish
from kagemusha.demo.cluster.operator import Operator
from kagemusha.demo.cluster.waiting import until
from kagemusha.demo.nodes import Machines

CLUSTER_S = 60.0


class Group:
    """The cluster of a run. `of`: who asks for a program, by its id."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.daemons = {name: Daemon(node) for name, node in machines.nodes.items()}
        self.of: dict[str, Operator] = {}

    async def start(self, programs: Iterable[str]) -> str:
        """Certificates, settings and daemons; the name of the node that leads."""
        token = furnish(self._machines)
        for daemon in self.daemons.values():
            await daemon.start()
        for program in programs:
            self.of[program] = await arrived(self._machines, token, self._machines.nodes, program)
        operator = next(iter(self.of.values()))
        leads: list[str] = []

        async def is_whole() -> bool:
            nodes = await operator.nodes()
            leads[:] = [one["node"] for one in nodes if one["leader"]]
            return bool(leads) and all(one["alive"] for one in nodes)

        await self.until(is_whole, CLUSTER_S, "the nodes do not come together")
        return leads[0]

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
