"""The agent of one instance: started, listened to, and replaced when it dies."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import structlog

from cluster.agents.around import Around
from cluster.agents.jobs import Jobs
from cluster.agents.place import Place
from cluster.agents.process import AgentProcess
from transport import control
from transport.errors import KagemushaError

log = structlog.get_logger()

RETRY_S_MAX: Final = 5.0


class Ward(Protocol):
    """Whose agent it is."""

    @property
    def wants_agent(self) -> bool:
        """Whether an agent that died is to be replaced."""

    def heard(self, event: control.Event) -> None:
        """Its agent tells this."""

    async def losing(self) -> None:
        """It was found dead, and is still `process`: the last moment to do what must be done before it is replaced."""

    def lost(self) -> None:
        """It is gone, and so is all that it held."""

    async def again(self) -> None:
        """Go on with another agent. Raises KagemushaError: then it is tried once more."""


class KeptAgent:
    """One for each instance. process: the agent, None while there is none; reason: why, or "".

    alone: held while the instance is changed.
    """

    def __init__(self, place: Place, around: Around, ward: Ward, alone: asyncio.Lock, jobs: Jobs) -> None:
        self.process: AgentProcess | None = None
        self.reason = ""
        self._newest = 0
        self._place = place
        self._around = around
        self._ward = ward
        self._alone = alone
        self._jobs = jobs

    def require(self) -> AgentProcess:
        """The agent. Raises KagemushaError while there is none."""
        if self.process is None:
            raise KagemushaError(f"{self._place.instance} has no agent now", hint="it is started again; wait a moment")
        return self.process

    async def have(self, config_file: str) -> AgentProcess:
        """The agent, which is started if there is none. Raises KagemushaError."""
        if self.process is None:
            around = self._around
            # The wall clock, which incarnations are counted by, may have been set back since.
            after = max(self._newest, around.agreed_incarnation(self._place.program))
            self.use(await AgentProcess.anew(self._place, around.command, config_file, around.ports, after))
        return self.require()

    def use(self, process: AgentProcess) -> None:
        """This is the agent from now on."""
        self.process, self.reason = process, ""
        self._newest = max(self._newest, process.hello.incarnation)
        self._jobs.start(self._listen(process))

    async def quit(self) -> None:
        """Tell it to go; nobody replaces it. Raises ControlError: whether it has ended is not known."""
        process, self.process = self.process, None
        if process is not None:
            await process.quit()

    async def close(self) -> None:
        """Leave it as it is."""
        if self.process is not None:
            await self.process.close()

    def replace_soon(self) -> None:
        """Start another one for one that died, until that succeeds or nobody wants it any more."""
        self._jobs.start(self._replace())

    async def _listen(self, process: AgentProcess) -> None:
        async for event in process.events():
            if process is self.process:
                self._ward.heard(event)
        if process is not self.process:
            return
        await self._ward.losing()
        self._around.agent_lost(self._place.program)
        await self._clear()  # Quite gone: its successor is to listen where it did.
        self._ward.lost()
        self.replace_soon()

    async def _replace(self) -> None:
        wait_s = self._around.config.agents.restart_ms / 1000
        while True:
            async with self._alone:
                if self.process is not None or not self._ward.wants_agent:
                    return
                try:
                    await self._ward.again()
                    return
                except KagemushaError as error:
                    self.reason = error.what
                    await self._clear()
                    log.warning("an agent is not back", reason=error.what, hint=error.hint, again_in_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_S_MAX)

    async def _clear(self) -> None:
        """End the one that is there to be replaced, if that can be done: its successor ends what is left of it."""
        try:
            await self.quit()
        except KagemushaError as error:
            log.warning("an agent may be left", reason=error.what, hint=error.hint)
