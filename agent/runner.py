"""The agent's process: puts its rooms together, and runs until it is told to quit.

Order at the start: signals are blocked before there is any thread; the helpers are made before there is much
memory; uvloop comes before anything of asyncio. Nothing serves before a controller says so.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import structlog
import uvloop

from agent.hosts import Host, ProcessHost, WarmHost
from agent.kernel import scheduling
from agent.kernel.descriptor_table import make_room
from agent.launch.spawner import Spawner
from agent.leash import Leash
from agent.program import Definition
from agent.scout.scout import Scout
from agent.surroundings import Surroundings
from agent.tracing.tracer import Tracer, block_signals
from transport import logs
from transport.control import Event, GetContext, GetStatus, Hello, Ok, Quit, Reply, Request, SetLeash
from transport.control_socket import ControlServer
from transport.errors import KagemushaError
from transport.log_level import LogLevel
from transport.structure_view import GetStructures
from transport.tls import Tls

log = structlog.get_logger()

_COLLECT_S = 30.0
_SWITCH_INTERVAL_S = 50e-6
"""How long the event loop may keep the interpreter lock while the tracer thread wants it."""
_DESCRIPTORS = 4096
"""Room for the agent's own and for a duplicate of each of the program's sockets."""


def run(
    definition: Definition, *, node: str, directory: Path, control: Path, listen: tuple[str, int], pki: Path, after: int
) -> int:
    """Run one agent, of an incarnation above `after`; gives the exit status. Raises KagemushaError, before anything has
    changed."""
    block_signals()
    logs.configure(LogLevel(control.parent), inherited=True, instance=f"{definition.program.id}@{node}")
    tls = Tls.load(pki)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # Nobody stops a warm program to read all of it: its agent has a scout that was never sent.
    sent = nullcontext(Scout()) if definition.mirror.mode == "structures" else Scout()
    with Spawner() as spawner, sent as scout:
        make_room(_DESCRIPTORS)
        # A collection must not fall into a stop; `Serving` collects between two checkpoints.
        gc.collect()
        gc.freeze()
        gc.disable()
        agent = Agent(definition, node, directory, control, listen, tls, spawner, scout, after)
        return uvloop.run(agent.run())


class Agent:
    """One agent process."""

    def __init__(
        self,
        definition: Definition,
        node: str,
        directory: Path,
        control: Path,
        listen: tuple[str, int],
        tls: Tls,
        spawner: Spawner,
        scout: Scout,
        after: int,
    ) -> None:
        self._definition = definition
        self._node = node
        self._directory = directory
        self._control_path = control
        self._listen = listen
        self._tls = tls
        self._spawner = spawner
        self._scout = scout
        self._after = after
        self._host: Host | None = None
        self._leash: Leash | None = None
        self._server: ControlServer | None = None
        self._port = 0
        self._quit = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Serve requests until Quit, SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._quit.set)
        loop.add_signal_handler(signal.SIGHUP, self._renew_certificates)
        tracer = Tracer(on_failure=lambda error: loop.call_soon_threadsafe(self._tracer_failed, error))
        tracer.start()
        around = Surroundings(
            self._definition,
            self._node,
            self._directory,
            self._tls,
            self._spawner,
            self._scout,
            tracer,
            self._emit,
            self._control_path.with_suffix(".track"),
            self._after,
        )
        host: Host = WarmHost(around) if self._definition.mirror.mode == "structures" else ProcessHost(around)
        self._host = host
        self._port = await host.listen(*self._listen)
        self._leash = Leash(host.stand_still)
        self._server = ControlServer(self._control_path, self._handle, self._hello)
        self._server.company = self._leash.company
        async with self._server:
            log.info("the agent is ready", control=str(self._control_path), port=self._port)
            scheduling.end_promptness()  # Its starter may have made it prompt: a mirror was missing until now.
            collecting = asyncio.create_task(self._collect(host))
            await self._quit.wait()
            collecting.cancel()
            await self._leash.close()
            await host.close()
        tracer.close()
        return self._status

    def _renew_certificates(self) -> None:
        try:
            self._tls.reload()
        except KagemushaError as error:
            log.error("the certificates stay as they were", reason=error.what, hint=error.hint)

    async def _collect(self, host: Host) -> None:
        """Collect garbage now and then where no stop can be disturbed by it."""
        while True:
            await asyncio.sleep(_COLLECT_S)
            if host.may_collect:
                gc.collect()

    async def _handle(self, request: Request) -> Reply:
        host = self._hosted()
        if isinstance(request, GetStatus):
            return await host.status()
        if isinstance(request, GetContext):
            return await host.context()
        if isinstance(request, GetStructures):
            return await host.structures(request)
        if isinstance(request, SetLeash) and self._leash is not None:
            self._leash.set(request.after_ms)
            return Ok()
        if isinstance(request, Quit):
            self._quit.set()
            return Ok()
        try:
            return await host.handle(request)
        except KagemushaError as error:
            log.warning("a request is refused", request=type(request).__name__, reason=error.what, hint=error.hint)
            raise

    def _hosted(self) -> Host:
        if self._host is None:
            raise RuntimeError("the agent has not started yet")
        return self._host

    def _hello(self) -> Hello:
        host = self._hosted()
        return Hello(self._definition.program.id, host.name, host.incarnation, os.getpid(), self._port)

    def _emit(self, event: Event) -> None:
        if self._server is not None:
            self._server.push(event)

    def _tracer_failed(self, error: BaseException) -> None:
        """Without its tracer thread an agent is worth nothing; the program runs on, a shadow dies with the agent."""
        log.error("the tracer thread has failed", exc_info=error)
        self._status = 70
        os._exit(self._status)
