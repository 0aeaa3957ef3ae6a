"""The cluster as its daemon knows it, in the terms of the API: `port.Cluster` on top of a node's `Runner`.

What changes something, and what only the leader knows, is done on the node that leads; on another one it is refused
with `NotHere`, and the API asks there. What can be looked at without a leader is looked at on any node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cluster.admin.admission import require_mirrorable, same_file
from cluster.admin.events import EventLog
from cluster.admin.history import event_of
from cluster.admin.history_file import HistoryFile
from cluster.admin.models import (
    Create,
    Drained,
    Event,
    Health,
    InstanceView,
    NodeView,
    ProgramView,
    StructuresView,
    Switchover,
)
from cluster.admin.port import NotHere, Unfit, Unknown, refusal_of
from cluster.admin.readings import ReadClock, Readings, unknown_clock
from cluster.admin.views import (
    Served,
    checkpoint_view,
    instance_view,
    node_views,
    program_view,
    structures_view,
    view_without_agent,
)
from cluster.leader.news import FailoverRequested, News, StartRequested, StopRequested, SwitchRequested
from cluster.leader.orders import Note
from cluster.metrics.table import Sample
from cluster.metrics.tally import Tally
from cluster.node.messages import AnswerBody, InstanceState
from cluster.node.peers import OrderLost
from cluster.node.program import CompareNodes, all_alike
from cluster.node.questions import (
    Look,
    LookAtStructures,
    LookInside,
    Seen,
    SeenInside,
    SeenStructures,
    SetLogLevel,
)
from cluster.node.runner import HEARD_S, Runner
from cluster.raft.errors import NoQuorum, UnknownOutcome
from cluster.registry.commands import Command, CreateProgram, Drain, Ok, Pause, Rejected, Result, Resume, ShutDown
from cluster.registry.refusals import shared_with
from cluster.registry.values import InstanceId, NodeEntry, NodeId, Placement, ProgramEntry, ProgramId
from transport.checkpoint import NOTHING
from transport.clock import boottime_s
from transport.context_schema import Context
from transport.errors import KagemushaError
from transport.log_level import LevelName

REQUEST_S: Final = 45.0
"""How long the leader may take for what a person asks."""
_LOOK_S: Final = 0.05
_SEE_ALL: Final = "`kagemusha list` shows all"


class ClusterService:
    """See `port.Cluster`. compare: whether nodes are alike enough for a program. read_clock: for metrics."""

    def __init__(
        self, runner: Runner, compare: CompareNodes = all_alike, read_clock: ReadClock = unknown_clock
    ) -> None:
        self._runner = runner
        self._compare = compare
        self._log = EventLog()
        self._file = HistoryFile(Path(runner.config.node.data) / "history.jsonl")
        self._readings = Readings(runner, read_clock)
        before = self._file.load()
        self._log.remember(before)
        self._readings.remember(before)
        self._served: dict[tuple[ProgramId, int], Served] = {}
        runner.on_applied.append(self._applied)
        runner.decisions.on_note.append(self._noted)

    # ------------------------------------------------------------ what changes something

    async def create(self, request: Create, request_id: str) -> ProgramView:
        """See `port.Cluster`."""
        self._require_leadership()
        runner = self._runner
        nodes = request.nodes or tuple(one.id for one in runner.config.nodes)
        for node in nodes:
            if node not in {one.id for one in runner.config.nodes}:
                raise Unknown(f"there is no node {node}", hint="`kagemusha topology` shows all")
        file = await same_file(runner.ask, request, nodes)
        if request.program_id not in runner.registry.programs:
            # Before its nodes are asked: they would find the other program's address in use, by themselves.
            shared = shared_with(runner.registry.programs.values(), file.policy)
            if shared is not None:
                raise refusal_of(shared)
            await require_mirrorable(runner.ask, request.config_file, nodes, self._compare)
        command = CreateProgram(request_id, request.program_id, request.config_file, file.digest, nodes, file.policy)
        _checked(await runner.propose(command))
        return self._view(self._entry(request.program_id))

    async def switchover(self, instance: InstanceId, request_id: str) -> Switchover:
        """See `port.Cluster`."""
        return await self._change(instance, SwitchRequested(request_id, instance))

    async def failover(self, instance: InstanceId, force: bool, request_id: str) -> Switchover:
        """See `port.Cluster`."""
        return await self._change(instance, FailoverRequested(request_id, instance, force))

    async def _change(self, instance: InstanceId, news: SwitchRequested | FailoverRequested) -> Switchover:
        self._require_leadership()
        old = self._entry_of(instance).primary
        program = Placement.parse(instance).program
        await self._request(news.request_id, news)
        entry = self._entry(program)
        promotion = entry.last_promotion
        checkpoint = checkpoint_view(promotion.version if promotion is not None else NOTHING)
        if promotion is None or checkpoint is None:
            raise Unfit(f"{program} was started anew while it was to be handed over", hint="look at its status")
        served = self._served.get((program, entry.token))
        return Switchover(
            program=program,
            old=str(Placement(program, old)),
            new=promotion.instance,
            token=entry.token,
            checkpoint=checkpoint,
            timeline=() if served is None else served.steps,
        )

    async def pause(self, program: ProgramId, for_s: int, request_id: str) -> ProgramView:
        """See `port.Cluster`."""
        self._require_leadership()
        self._entry(program)
        _checked(await self._runner.propose(Pause(request_id, program, int(time.time()) + for_s)))
        return self._view(self._entry(program))

    async def resume(self, program: ProgramId, request_id: str) -> ProgramView:
        """See `port.Cluster`."""
        self._require_leadership()
        self._entry(program)
        _checked(await self._runner.propose(Resume(request_id, program)))
        return self._view(self._entry(program))

    async def drain(self, node: NodeId, over: bool, request_id: str) -> Drained:
        """See `port.Cluster`."""
        self._require_leadership()
        _checked(await self._runner.propose(Drain(request_id, node, over)))
        registry = self._runner.registry
        primaries = tuple(str(Placement(name, node)) for name, one in registry.programs.items() if one.primary == node)
        return Drained(node=node, drained=registry.nodes[node].drained, primaries=tuple(sorted(primaries)))

    async def set_log_level(self, node: NodeId, level: LevelName, for_s: int) -> None:
        """See `port.Cluster`."""
        if node not in {one.id for one in self._runner.config.nodes}:
            raise Unknown(f"there is no node {node}", hint="`kagemusha topology` shows all")
        try:
            await self._runner.ask(node, SetLogLevel(level, for_s))
        except KagemushaError as error:
            raise Unfit(f"node {node} can't be told: {error.what}", hint=error.hint) from error

    async def start(self, program: ProgramId, request_id: str) -> ProgramView:
        """See `port.Cluster`."""
        self._require_leadership()
        self._entry(program)
        await self._request(request_id, StartRequested(request_id, program))
        return self._view(self._entry(program))

    async def stop(self, program: ProgramId, request_id: str) -> ProgramView:
        """See `port.Cluster`."""
        self._require_leadership()
        self._entry(program)
        await self._request(request_id, StopRequested(request_id, program, False))
        return self._view(self._entry(program))

    async def shutdown(self, program: ProgramId, request_id: str) -> ProgramView:
        """See `port.Cluster`."""
        self._require_leadership()
        entry = self._entry(program)
        one = entry.primary_instance
        if not entry.shut_down and (one is None or one.status == "stopped"):
            raise Unfit(f"{program} is stopped already", hint="it stays so when the cluster is back")
        _checked(await self._runner.propose(ShutDown(f"{request_id}.shut-down", program)))
        return await self.stop(program, request_id)

    async def delete(self, program: ProgramId, request_id: str) -> None:
        """See `port.Cluster`."""
        self._require_leadership()
        if not self._runner.registry.was_deleted(program, request_id):
            self._entry(program)
        await self._request(request_id, StopRequested(request_id, program, True))

    # ------------------------------------------------------------ what can be looked at

    async def status(self, instance: InstanceId) -> InstanceView:
        """See `port.Cluster`."""
        self._prefer_leader()
        entry = self._entry_of(instance)
        place = Placement.parse(instance)
        try:
            answer = await self._runner.ask(place.node, Look(place.program))
        except KagemushaError as error:
            return view_without_agent(entry, instance, error.what)
        if not isinstance(answer, Seen):
            raise TypeError(f"Look is answered with {type(answer).__name__}")
        lease_age_ms = self._lease_age_ms(entry) if place.node == entry.primary else None
        return instance_view(entry, answer.status, lease_age_ms)

    async def context(self, instance: InstanceId) -> Context:
        """See `port.Cluster`."""
        answer = await self._inside(instance, LookInside(Placement.parse(instance).program))
        if not isinstance(answer, SeenInside):
            raise TypeError(f"LookInside is answered with {type(answer).__name__}")
        return answer.context

    async def structures(self, instance: InstanceId, name: str, elements: int) -> StructuresView:
        """See `port.Cluster`."""
        order = LookAtStructures(Placement.parse(instance).program, name, elements)
        answer = await self._inside(instance, order)
        if not isinstance(answer, SeenStructures):
            raise TypeError(f"LookAtStructures is answered with {type(answer).__name__}")
        return structures_view(answer.structures)

    async def _inside(self, instance: InstanceId, order: LookInside | LookAtStructures) -> AnswerBody:
        """Ask the agent of an instance, wherever it is. Raises Unfit for whatever is in the way."""
        self._entry_of(instance)
        try:
            return await self._runner.ask(Placement.parse(instance).node, order)
        except OrderLost as error:
            raise Unfit(f"{instance} can't be asked: {error.what}", hint=error.hint) from error
        except KagemushaError as error:
            raise Unfit(error.what, hint=error.hint) from error

    async def programs(self) -> tuple[ProgramView, ...]:
        """See `port.Cluster`."""
        self._prefer_leader()
        programs = self._runner.registry.programs
        return tuple(self._view(programs[name]) for name in sorted(programs))

    async def nodes(self) -> tuple[NodeView, ...]:
        """See `port.Cluster`."""
        runner = self._runner
        ages_s = runner.heartbeat_ages_s()
        heard_ms = {node: age_s * 1000 for node, age_s in ages_s.items()}
        # A machine that has lost its power closes no connection: it is known by its silence.
        others = {one.id for one in runner.config.others if ages_s.get(one.id, 0.0) <= HEARD_S}
        alive = {runner.node, *(node for node in others if runner.peers.is_connected(node))}
        programs = runner.registry.programs.values()
        # A node that has never come stands in the settings alone.
        nodes = {one.id: NodeEntry(one.id, one.address, one.admin) for one in runner.config.nodes}
        nodes.update(runner.registry.nodes)
        return node_views(nodes, programs, heard_ms, alive, self._leader(), runner.desk.loads)

    async def samples(self) -> tuple[Sample, ...]:
        """See `port.Cluster`."""
        programs = [self._view(one) for one in self._runner.registry.programs.values()]
        return tuple(self._readings.samples(self.health(), programs, await self._instances_here()))

    @property
    def tally(self) -> Tally:
        """See `port.Cluster`."""
        return self._readings.tally

    async def _instances_here(self) -> tuple[InstanceView, ...]:
        runner = self._runner
        names = [
            str(Placement(program, runner.node))
            for program in sorted(runner.supervisor.instances)
            if program in runner.registry.programs
        ]
        known = [name for name in names if self._runner.registry.programs[Placement.parse(name).program].instances]
        return tuple(await asyncio.gather(*(self._status_here(name) for name in known)))

    async def leads_no_more(self, node: NodeId) -> None:
        """See `port.Cluster`."""
        while self._leader() == node:
            await asyncio.sleep(_LOOK_S)

    def history(self, program: ProgramId, limit: int) -> tuple[Event, ...]:
        """See `port.Cluster`."""
        return self._log.newest(program, limit)

    def primaries_here(self, program: ProgramId) -> tuple[InstanceId, ...]:
        """See `port.Cluster`."""
        return self._here(program, lambda one: one.role == "primary" and one.status in ("running", "mirrored"))

    def mirrors_here(self, program: ProgramId, max_lag_ms: float | None) -> tuple[InstanceId, ...]:
        """See `port.Cluster`."""
        limit_ms = float("inf") if max_lag_ms is None else max_lag_ms

        def fits(one: InstanceState) -> bool:
            return one.role == "mirror" and one.status == "mirrored" and one.staleness_ms <= limit_ms

        return self._here(program, fits)

    def _here(self, program: ProgramId, fits: Callable[[InstanceState], bool]) -> tuple[InstanceId, ...]:
        runner = self._runner
        states = [one for one in runner.supervisor.states() if program in ("", one.program) and fits(one)]
        return tuple(sorted(str(Placement(one.program, runner.node)) for one in states))

    def health(self) -> Health:
        """See `port.Cluster`."""
        runner, leadership = self._runner, self._runner.leader
        missing = runner.member.absent()
        members = len(runner.config.nodes)
        return Health(
            node=runner.node,
            cluster=runner.config.cluster.id,
            leader=self._leader(),
            term=leadership.term,
            quorum=members - len(missing) > members // 2,
            missing=missing,
        )

    def events(self, after: int | None) -> AsyncIterator[Event]:
        return self._log.follow(after)

    # ------------------------------------------------------------ inside

    def _require_leadership(self) -> None:
        """Raise NotHere where another node leads, NoQuorum where none does."""
        runner = self._runner
        if runner.leader.holds(boottime_s()) and runner.decisions.failover.leads:
            return
        leader = self._leader()
        if leader is not None and leader != runner.node:
            raise NotHere(leader, next(one.admin for one in runner.config.nodes if one.id == leader))
        absent = runner.member.absent()
        members = len(runner.config.nodes)
        missing = max(members // 2 + 1 - (members - len(absent)), 0)
        refused = NoQuorum(missing, members, absent, runner.member.troubles)
        refused.hint = refused.hint or "nothing was changed; is the daemon running on the nodes that are missing?"
        raise refused

    def _prefer_leader(self) -> None:
        """Raise NotHere where a leader can be asked, which knows best; without one this node says what it knows."""
        leader = self._leader()
        if leader is not None and leader != self._runner.node and self._runner.peers.is_connected(leader):
            self._require_leadership()

    def _leader(self) -> NodeId | None:
        """Who leads and is heard: a member that has lost its leader goes on to name it."""
        leader = self._runner.leader.leader
        return None if leader in self._runner.member.absent() else leader

    async def _request(self, request_id: str, news: News) -> None:
        """Have the leader's decisions carry it out. Raises Refusal, UnknownOutcome."""
        try:
            result = await self._runner.decisions.request(request_id, news, REQUEST_S)
        except KagemushaError as error:
            raise UnknownOutcome(error.what, hint=error.hint) from error
        _checked(result)

    async def _status_here(self, instance: InstanceId) -> InstanceView:
        place = Placement.parse(instance)
        entry = self._entry(place.program)
        try:
            answer = await self._runner.ask(place.node, Look(place.program))
        except KagemushaError as error:
            return view_without_agent(entry, instance, error.what)
        if not isinstance(answer, Seen):
            raise TypeError(f"Look is answered with {type(answer).__name__}")
        return instance_view(entry, answer.status, None)

    def _lease_age_ms(self, entry: ProgramEntry) -> float | None:
        """Since the lease was granted last, where this node leads and so knows it."""
        runner = self._runner
        if not runner.decisions.failover.leads:
            return None
        times = runner.config.times.lease_times()
        left_s = runner.decisions.failover.lease_ends_s(entry.program_id) - boottime_s()
        return max((times.awaited(times.lease_s) - left_s) * 1000, 0.0)

    def _view(self, entry: ProgramEntry) -> ProgramView:
        return program_view(entry, self._served.get((entry.program_id, entry.token)))

    def _entry(self, program: ProgramId) -> ProgramEntry:
        entry = self._runner.registry.programs.get(program)
        if entry is None:
            raise Unknown(f"there is no program {program}", hint=_SEE_ALL)
        return entry

    def _entry_of(self, instance: InstanceId) -> ProgramEntry:
        place = Placement.parse(instance)
        entry = self._runner.registry.programs.get(place.program)
        if entry is None or entry.instance_on(place.node) is None:
            raise Unknown(f"there is no instance {instance}", hint=_SEE_ALL)
        return entry

    def _applied(self, command: Command, result: Result) -> None:
        at = _now("milliseconds")
        event = event_of(self._runner.registry.applied, at, command, result)
        if event is not None and self._log.note(event):
            self._file.append(event)
            self._readings.agreed(event, command)

    def _noted(self, note: Note) -> None:
        if note.parts:
            self._served = {key: one for key, one in self._served.items() if key[0] != note.program}
            self._served[note.program, note.token] = Served(_now("microseconds"), note.parts)
            self._readings.served(note)


def _now(precision: str) -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _checked(result: Result) -> None:
    """Raise what a person is told of a result that is a rejection."""
    if isinstance(result, Rejected):
        refusal = refusal_of(result)
        refusal.hint = refusal.hint or _SEE_ALL
        raise refusal
    if not isinstance(result, Ok):
        raise TypeError(f"{type(result).__name__} is no result")
