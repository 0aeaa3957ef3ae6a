"""All instances of this node: found again at the start, ordered about by the leader, told of in heartbeats."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from cluster.agents.around import Around, none_agreed
from cluster.agents.clients import keepalived_of, obstacles, remove_forgotten_barriers
from cluster.agents.instance import LocalInstance
from cluster.agents.instance_view import primary_of, state_of
from cluster.agents.observer import Observer
from cluster.agents.output import OutputTail
from cluster.agents.place import Place, places
from cluster.agents.ports import StreamPorts
from cluster.agents.record import InstanceRecord
from cluster.agents.tenure import NoLease
from cluster.config import NodeConfig, host_and_port
from cluster.fencing.guard import Guard
from cluster.health.rounds import Rounds
from cluster.metrics.tally import Tally
from cluster.node.load import LoadMeter
from cluster.node.messages import (
    ActivateHere,
    AnswerBody,
    CheckProgram,
    DoesNotServe,
    Done,
    Forget,
    GetReadyHere,
    Hold,
    InstanceState,
    LetGo,
    Load,
    MirrorFrom,
    OrderBody,
    ProgramChecked,
    ProgramRead,
    ReadProgram,
    Report,
    Reported,
    ServeOn,
    Serves,
    Start,
    Stop,
    StopServing,
    Waits,
)
from cluster.node.program import PreflightProgram, ReadProgramFile, nothing_against
from cluster.node.questions import (
    Look,
    LookAtStructures,
    LookInside,
    Seen,
    SeenInside,
    SeenStructures,
    SetLogLevel,
)
from cluster.redirect.probe import AddressInUse
from cluster.registry.values import ProgramId
from transport.context_schema import Context
from transport.control import Activate, GetContext, Request, Status
from transport.errors import ConfigError, ControlError, KagemushaError
from transport.log_level import LogLevel
from transport.structure_view import GetStructures, Structures

log = structlog.get_logger()

LOOK_S: Final = 0.1
"""How often health checks and what programs write are looked after."""
LOOKS_PER_POLL: Final = 5
"""How rarely agents are asked for what events do not tell: it takes an agent's time as well as the daemon's."""
INSIDE_S: Final = 20.0
"""A program's debug information, by which its structures are found, may be large."""
Result = TypeVar("Result")
Shown = TypeVar("Shown")


class Supervisor:
    """Use as: `await start()`, `carry_out` for each order, `await close()`, after which programs and agents go on."""

    def __init__(
        self,
        config: NodeConfig,
        command: Sequence[str],
        guard: Guard,
        read_program: ReadProgramFile,
        changed: Callable[[], None],
        ask_lease: Callable[[ProgramId, int], None],
        preflight: PreflightProgram = nothing_against,
        agreed_incarnation: Callable[[ProgramId], int] = none_agreed,
    ) -> None:
        self.instances: dict[ProgramId, LocalInstance] = {}
        self._config = config
        self._read_program = read_program
        self._preflight = preflight
        self._log_level = LogLevel(Path(config.node.run))
        self.meter = LoadMeter(config.node.id, config.times.lease_ms / 2000, lambda: guard.is_watched)
        ports = StreamPorts(self._busy_ports)
        self.tally = Tally()
        self._around = Around(
            config, command, guard, read_program, changed, ask_lease, ports, self.tally, agreed_incarnation
        )
        self._rounds = Rounds(read_program, changed, self.tally)
        self.observer = Observer(guard, keepalived_of(config), self.tally)
        self._tails: dict[ProgramId, OutputTail] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Find what a daemon before this one has left."""
        for place in places(self._config):
            try:
                record = InstanceRecord.load(place.record)
            except ConfigError as error:
                log.error("an instance is forgotten", reason=error.what, hint=error.hint)
                continue
            self._add(record)
        self._clear_away()
        await asyncio.gather(*(instance.recover() for instance in self.instances.values()))
        self._keep(self._look_after())

    def _clear_away(self) -> None:
        """Take away what a daemon before this one has left of instances that there are no more. One that is not root
        can have left nothing."""
        if os.geteuid() != 0:
            return
        try:
            remove_forgotten_barriers(
                self._config.node.id, {instance.place.instance for instance in self.instances.values()}
            )
        except KagemushaError as error:
            log.error("barriers can't be looked at", reason=error.what, hint=error.hint)

    async def close(self) -> None:
        """Leave everything as it is."""
        for task in tuple(self._tasks):
            task.cancel()
        self._rounds.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(instance.close() for instance in self.instances.values()))

    @property
    def load(self) -> Load:
        """How busy the node is."""
        return self.meter.read()

    def states(self) -> tuple[InstanceState, ...]:
        """What is known of every instance now."""
        return tuple(map(self._state, self.instances.values()))

    def _state(self, instance: LocalInstance) -> InstanceState:
        if instance.record.role == "mirror":
            return state_of(instance, instance.clients.unready)
        return state_of(instance, self._rounds.reason(instance.record.program))

    def is_healthy(self, program: ProgramId) -> bool | None:
        """See `Rounds.is_healthy`."""
        return self._rounds.is_healthy(program)

    def renew_certificates(self) -> None:
        """Have all agents go by the certificates that are in the node's directory now."""
        for instance in self.instances.values():
            if instance.agent is not None:
                instance.agent.renew_certificates()

    def leases(self) -> list[tuple[ProgramId, int]]:
        """The primaries that want a lease: program and token."""
        return [
            (instance.record.program, instance.tenure.lease.token)
            for instance in self.instances.values()
            if instance.tenure.lease is not None
        ]

    def granted(self, program: ProgramId, token: int, sent_s: float, granted_s: float) -> None:
        """See `LocalInstance.granted`."""
        if program in self.instances:
            self.instances[program].granted(token, sent_s, granted_s)

    def extended(self, program: ProgramId, token: int, sent_s: float, seconds: int) -> None:
        """See `LocalInstance.extended`."""
        if program in self.instances:
            self.instances[program].extended(token, sent_s, seconds)

    async def in_hand(self, program: ProgramId, token: int) -> bool:
        """Wait until the watchdog goes by a lease that was granted to this daemon for the primary under this token;
        False: there is none here."""
        instance = self.instances.get(program)
        if instance is None or (instance.record.role, instance.record.token) != ("primary", token):
            return False
        await instance.in_hand.wait()
        return True

    async def loosen(self, program: ProgramId, seconds: int) -> None:
        """See `LocalInstance.loosen`."""
        if program in self.instances:
            await self.instances[program].loosen(seconds)

    def refused(self, program: ProgramId, token: int, reason: str, *, replaced: bool) -> None:
        """See `LocalInstance.refused`."""
        if program in self.instances:
            self.instances[program].refused(token, reason, replaced=replaced)

    async def carry_out(self, order: OrderBody) -> AnswerBody:
        """Carry out an order of the leader. Raises KagemushaError for what could not be done.

        What was begun is finished, though the one who asked may have given up.
        """
        task = self._keep(self._perform(order))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_ended_unheard)
            raise

    async def _perform(self, order: OrderBody) -> AnswerBody:
        match order:
            case ReadProgram(config_file):
                file = await asyncio.to_thread(self._read_program, Path(config_file))
                return ProgramRead(file.program, file.digest, file.policy)
            case CheckProgram(config_file):
                return await self._check(Path(config_file))
            case Start(program, config_file, token):
                self._rounds.started_anew(program, token)
                return await self._serving(self._have(program, config_file).start(config_file, token))
            case GetReadyHere(program, token, version):
                await self._get_ready(program, Activate(token, version))
            case ActivateHere(program, token, version):
                return await self._serving(self._instance(program).activate(token, version), waits=True)
            case MirrorFrom(program, config_file, node, stream, token):
                await self._have(program, config_file).mirror(config_file, node, stream, token)
            case StopServing(program, token, fence_id):
                if program in self.instances:
                    await self.instances[program].fence(token, fence_id)
            case Hold(program, token, fence_id):
                return await self._instance(program).hold(token, fence_id)
            case ServeOn(program, token, fence_id):
                await self._instance(program).serve_on(token, fence_id)
            case LetGo(program, token):
                if program in self.instances:
                    await self.instances[program].let_go(token)
            case Stop(program, token):
                if program in self.instances:
                    await self.instances[program].stop(token)
            case Forget(program):
                self._tails.pop(program, None)
                if program in self.instances:
                    await self.instances.pop(program).forget()
            case Report(program):
                instance = self.instances.get(program)
                if instance is None:
                    return Reported(None, self.load)
                await instance.poll()
                return Reported(self._state(instance), self.load)
            case Look(program):
                return Seen(await self._look(self._instance(program)))
            case LookInside(program):
                return SeenInside(await self._inside(program, GetContext(), Context))
            case SetLogLevel(level, for_s):
                self._log_level.set(level, for_s)
                log.info("the log level is set", level=level, for_s=for_s)
            case LookAtStructures(program, name, elements):
                return SeenStructures(await self._inside(program, GetStructures(name, elements), Structures))
        return Done()

    async def _get_ready(self, program: ProgramId, request: Activate) -> None:
        """Ahead of ActivateHere, which finds it done or under way: so it waits for nothing else of that instance."""
        agent = self._instance(program).agent
        if agent is not None:
            await agent.get_ready(request, self._around.order_s)

    async def _serving(
        self, job: Coroutine[object, object, tuple[tuple[str, int], ...]], *, waits: bool = False
    ) -> AnswerBody:
        """Whoever does not come to serve was ended: nothing of it is left. waits: but for one whose address is not
        free, or that has no lease yet."""
        try:
            return Serves(await job)
        except KagemushaError as error:
            if waits and isinstance(error, NoLease):
                log.warning("a mirror is not the primary yet", reason=error.what, hint=error.hint)
                return Done()
            if waits and isinstance(error, AddressInUse):
                return Waits(error.what, hint="take it away there, and it goes on from its context by itself")
            return DoesNotServe(error.what[:4000], error.hint[:4000], fenced=True)

    async def _check(self, path: Path) -> ProgramChecked:
        """What stands in the way of mirroring a program here, and of leading its clients here."""
        found = await asyncio.to_thread(self._preflight, path)
        file = await asyncio.to_thread(self._read_program, path)
        more = await obstacles(self._config, file, known=file.program in self.instances)
        return ProgramChecked((*found.reasons, *more), found.facts)

    async def _look(self, instance: LocalInstance) -> Status:
        """What its agent says of it, and what is in the way of its clients, which an agent does not know."""
        status = await instance.look()
        clients, is_mirror = instance.clients, instance.record.role == "mirror"
        return replace(
            status, reason=status.reason or clients.taken or (clients.unready if is_mirror else clients.trouble)
        )

    async def _inside(self, program: ProgramId, question: Request, wanted: type[Shown]) -> Shown:
        instance = self._instance(program)
        if instance.agent is None:
            raise ControlError(f"{instance.place.instance} has no agent now", hint=instance.reason or "ask again")
        reply = await instance.agent.request(question, INSIDE_S)
        if not isinstance(reply, wanted):
            asked = type(question).__name__
            raise ControlError(f"{instance.place.instance}: {asked} is answered with {type(reply).__name__}")
        return reply

    def _instance(self, program: ProgramId) -> LocalInstance:
        if program not in self.instances:
            raise KagemushaError(f"there is nothing of {program} on node {self._config.node.id}")
        return self.instances[program]

    def _have(self, program: ProgramId, config_file: str) -> LocalInstance:
        if program not in self.instances:
            self._add(InstanceRecord(program, config_file))
        return self.instances[program]

    def _add(self, record: InstanceRecord) -> None:
        place = Place(self._config, record.program)
        place.make()
        self.instances[record.program] = LocalInstance(self._around, record)
        output = structlog.get_logger("output").bind(instance=place.instance)
        self._tails[record.program] = OutputTail(place.output, lambda line: output.info("program", line=line))

    def _busy_ports(self) -> set[int]:
        agents = [instance.agent for instance in self.instances.values()]
        return {host_and_port(agent.stream)[1] for agent in agents if agent is not None}

    async def _look_after(self) -> None:
        """Ask agents, and pass on what programs write."""
        for look in itertools.count():
            for tail in tuple(self._tails.values()):
                try:
                    tail.read()
                except OSError as error:
                    log.warning("output is not read", reason=str(error))
            self._rounds.look(filter(None, map(primary_of, self.instances.values())))
            for instance in self.instances.values():
                if instance.record.role == "mirror":
                    instance.clients.look_ahead()
            self.observer.look(self.instances)
            if look % LOOKS_PER_POLL == 0:
                self.observer.look_at_keepalived(self.instances)
                await asyncio.gather(*(instance.poll() for instance in tuple(self.instances.values())))
            await asyncio.sleep(LOOK_S)

    def _keep(self, job: Coroutine[object, object, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _ended_unheard(task: asyncio.Task[Any]) -> None:
    """Of an order whose asker has given up: why it failed is told here, or nowhere."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("an order is not carried out", reason=getattr(error, "what", repr(error)))
