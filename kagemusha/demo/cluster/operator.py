"""The operator: someone on the client's machine who asks and commands the cluster through its API, in Python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agent.kernel.namespaces import NETWORK, setns
from kagemusha.client import ApiError, AsyncClient, Json
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Machine
from kagemusha.demo.story import PROGRAM_ID

Result = TypeVar("Result")


class Operator:
    """Asks for one program from inside of the machine's network, in a thread that lives there. Every method may raise
    DemoError."""

    def __init__(
        self, endpoints: Sequence[str], token: str, authority: Path, logs: Path, program: str = PROGRAM_ID
    ) -> None:
        self._logs = logs
        self._program = program
        self._client = AsyncClient(endpoints, token=token, authority=str(authority))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="operator", daemon=True)
        self._thread.start()

    async def arrive(self, machine: Machine) -> None:
        """Move to the machine; before anything is asked."""
        await self._call(_move_into(machine.network.path))
        await self._call(self._client.__aenter__())

    async def create(self, config_file: Path, nodes: Sequence[str]) -> None:
        """Have the program mirrored; it is started on the first of these nodes."""
        await self._call(self._client.create_mirrored_instance(self._program, str(config_file), nodes))

    async def switch_over(self, node: str) -> None:
        """Have the instance on that node be the primary; returns when it serves."""
        await self._call(self._client.force_switchover(f"{self._program}@{node}"))

    async def status(self, node: str) -> Json:
        """Of the instance on that node."""
        return await self._call(self._client.get_instance_status(f"{self._program}@{node}"))

    async def structures(self, node: str) -> list[Json]:
        """The named structures of the instance on that node."""
        found = await self._call(self._client.get_instance_structures(f"{self._program}@{node}"))
        return list(found["structures"])

    async def program(self) -> Json:
        """The program with its instances, as the leader knows it. A node that has just come may know of none."""
        for one in await self._call(self._client.list_programs()):
            if one["program"] == self._program:
                return one
        raise DemoError(f"the cluster's API: there is no program {self._program}", hint=f"see {self._logs}")

    async def nodes(self) -> list[Json]:
        """All nodes; who is alive, and who leads."""
        return await self._call(self._client.list_nodes())

    async def history(self, limit: int) -> list[Json]:
        """The newest of what was agreed, as the first of the endpoints that answers remembers it."""
        return await self._call(self._client.get_history(limit=limit))

    async def _call(self, question: Coroutine[Any, Any, Result]) -> Result:
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(question, self._loop))
        except ApiError as error:
            hint = "; ".join(filter(None, (error.hint, f"see {self._logs}")))
            raise DemoError(f"the cluster's API: {error.what}", hint=hint) from error

    async def close(self) -> None:
        """Close the connections, and end the thread."""
        await self._call(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _move_into(namespace: Path) -> None:
    with namespace.open("rb") as file:
        setns(file.fileno(), NETWORK)
