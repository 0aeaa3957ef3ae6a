"""The two kinds of instance behind one face: a whole process that is mirrored, or a warm one and its structures."""

from __future__ import annotations

from typing import Protocol

from agent.context_report import context_of
from agent.instance import Instance
from agent.instance_view import status_of
from agent.structures_report import structures_of
from agent.surroundings import Surroundings
from agent.warm.instance import WarmInstance
from agent.warm.structures_report import structures_of as warm_structures_of
from agent.warm.view import status_of as warm_status_of
from transport.context_schema import Context
from transport.control import Reply, Request, Status
from transport.errors import ControlError
from transport.link import Conversation, LinkServer, serve
from transport.messages import STREAM, StreamMessage
from transport.structure_messages import STRUCTURES, StructureMessage
from transport.structure_view import GetStructures, Structures


class Host(Protocol):
    """What the agent's process asks of the one instance that it is for."""

    @property
    def name(self) -> str:
        """`<program>@<node>`."""

    @property
    def incarnation(self) -> int:
        """Rises with every start of the agent."""

    @property
    def may_collect(self) -> bool:
        """Whether a garbage collection disturbs no stop of the program."""

    async def listen(self, host: str, port: int) -> int:
        """Accept mirrors there; gives the port. Raises PeerRefused."""

    async def handle(self, request: Request) -> Reply:
        """Carry out one request. Raises KagemushaError for what is refused."""

    async def status(self) -> Status:
        """Everything that is known of the instance."""

    async def context(self) -> Context:
        """See `control.GetContext`. Raises ControlError."""

    async def structures(self, request: GetStructures) -> Structures:
        """Named structures, and what is in one. Raises ControlError."""

    async def stand_still(self) -> None:
        """Nobody leads this agent any more."""

    async def close(self) -> None:
        """End the mirroring."""


class ProcessHost:
    """A whole process."""

    def __init__(self, around: Surroundings) -> None:
        self._instance = Instance(around)
        self._links: LinkServer[StreamMessage] | None = None
        self.name, self.incarnation = self._instance.name, self._instance.incarnation
        self.handle, self.stand_still = self._instance.handle, self._instance.stand_still

    @property
    def may_collect(self) -> bool:
        """See `Host`. A primary collects between two checkpoints."""
        return self._instance.serving is None

    async def listen(self, host: str, port: int) -> int:
        """See `Host`."""
        instance = self._instance
        talk = Conversation(STREAM, lambda: instance.token, instance.counters)
        self._links = await serve(host, port, instance.around.tls, instance.audience.attend, talk)
        return self._links.port

    async def status(self) -> Status:
        """See `Host`."""
        return await status_of(self._instance)

    async def context(self) -> Context:
        """See `Host`."""
        return await context_of(self._instance)

    async def structures(self, request: GetStructures) -> Structures:
        """See `Host`."""
        return await structures_of(self._instance, request)

    async def close(self) -> None:
        """See `Host`."""
        if self._links is not None:
            await self._links.close()
        await self._instance.close()


class WarmHost:
    """A warm instance."""

    def __init__(self, around: Surroundings) -> None:
        self._instance = WarmInstance(around)
        self._links: LinkServer[StructureMessage] | None = None
        self.name, self.incarnation = self._instance.name, self._instance.incarnation
        self.handle = self._instance.handle
        self.may_collect = True

    async def listen(self, host: str, port: int) -> int:
        """See `Host`."""
        instance = self._instance
        talk = Conversation(STRUCTURES, lambda: instance.token, instance.counters)
        self._links = await serve(host, port, instance.around.tls, instance.audience.attend, talk)
        return self._links.port

    async def status(self) -> Status:
        """See `Host`."""
        return warm_status_of(self._instance)

    async def context(self) -> Context:
        """See `Host`."""
        raise ControlError(
            f"{self.name} mirrors named structures: there is no context of the whole process",
            hint='that is what mode = "process" has',
        )

    async def structures(self, request: GetStructures) -> Structures:
        """See `Host`."""
        return await warm_structures_of(self._instance, request)

    async def stand_still(self) -> None:
        """See `Host`. All that the program does goes to its mirrors until its lease has ended; then it is frozen."""

    async def close(self) -> None:
        """See `Host`."""
        if self._links is not None:
            await self._links.close()
        await self._instance.close()
