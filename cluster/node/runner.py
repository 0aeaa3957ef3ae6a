"""The daemon's running: agreement, links, agents and the leader's decisions, joined. Decides nothing itself.

One event loop has them all. What the pure rooms order is performed here in its order; what happens is told to them as
news, with the clock of this node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from cluster.agents.supervisor import Supervisor
from cluster.config import NodeConfig, host_and_port
from cluster.fencing.guard import Guard
from cluster.leader.detector import DetectorTimes
from cluster.leader.failover import Failover
from cluster.leader.news import LeaseAsked, NodeClosed, RegistryChanged
from cluster.node.decisions import Decisions
from cluster.node.desk import Desk
from cluster.node.lasting import first_failure
from cluster.node.messages import (
    AnswerBody,
    Forget,
    Grant,
    Heartbeat,
    LeaseRefused,
    NodeMessage,
    OrderBody,
    Question,
    RenewLease,
)
from cluster.node.peers import Handlers, OrderLost, Peers
from cluster.node.program import PreflightProgram, ReadProgramFile, nothing_against
from cluster.raft.errors import RaftError
from cluster.raft.lease import Leadership
from cluster.raft.member import Member
from cluster.raft.times import Times as RaftTimes
from cluster.registry.commands import (
    Command,
    DeleteProgram,
    EndExtension,
    Extend,
    Ok,
    Result,
    SetNode,
    decode_command,
    decode_result,
    encode,
)
from cluster.registry.state_machine import Registry
from cluster.registry.values import NodeId, ProgramId
from transport.clock import boottime_ns, boottime_s
from transport.errors import ConfigError, FrameError, KagemushaError
from transport.tls import Tls

log = structlog.get_logger()

COMMIT_S: Final = 2.0
HEARD_S: Final = 1.0
"""Whoever has sent no heartbeat for so long answers nothing: heartbeats and answers come of one event loop."""
RESTART_S: Final = 10
"""A daemon that is restarted is back within this time."""
_ANNOUNCE_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Given:
    """What the composition root gives: how agents and the watchdog are started, and a program's file is read and
    its program checked."""

    agent_command: Sequence[str]
    watchdog_command: Sequence[str]
    read_program: ReadProgramFile
    preflight: PreflightProgram = nothing_against


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        hint = "make room there, or name another directory in node.toml"
        raise ConfigError(f"{directory}: can't be made: {error.strerror}", hint=hint) from None


class Runner:
    """One node. `registry`, `peers`, `supervisor`, `desk` and `decisions` may be read by whoever serves the API.

    on_applied: hears of every command that was applied here.
    """

    def __init__(self, config: NodeConfig, tls: Tls, given: Given) -> None:
        self.config = config
        self.node = config.node.id
        self.registry = Registry()
        self.desk = Desk()
        self.on_applied: list[Callable[[Command, Result], None]] = []
        times = config.times
        failover = Failover(
            self.node,
            self.registry,
            times.lease_times(),
            DetectorTimes(
                heartbeat_s=times.heartbeat_ms / 1000,
                silence_s_min=3 * times.heartbeat_ms / 1000,
                silence_s_max=times.lease_ms / 1000,
            ),
        )
        self.peers = Peers(config, tls, Handlers(self._heard, self._ordered, self._connected, self._lost))
        run, data = Path(config.node.run), Path(config.node.data)
        for directory in (run, data, data / "raft"):
            _make(directory)
        self.guard = Guard(run / "leases", given.watchdog_command, run / "watchdog.log")
        self.supervisor = Supervisor(
            config,
            given.agent_command,
            self.guard,
            given.read_program,
            self._beat_soon,
            self._ask_lease,
            given.preflight,
            self._agreed_incarnation,
        )
        self.member = self._make_member(tls, data / "raft")
        self.decisions = Decisions(
            self.node,
            failover,
            self.registry,
            self.peers,
            self.desk,
            self.member.leadership,
            self.propose,
            self._deliver,
            self._keep,
            times.request_ms / 1000,
        )
        self._term_seen = 0
        self._heard_at_s: dict[NodeId, float] = {}
        self._beats = 0
        self._beat_due = False
        self._started = False
        self._caught_up = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lasting: list[asyncio.Task[None]] = []

    def _make_member(self, tls: Tls, directory: Path) -> Member:
        config, times = self.config, self.config.times
        return Member(
            self.node,
            {one.id: host_and_port(one.raft) for one in config.nodes},
            tls,
            directory,
            self._apply,
            self.registry.snapshot,
            self._restore,
            lambda _: self.decisions.see_leadership(),
            cluster=config.cluster.id,
            epoch=config.cluster.epoch,
            layout=config.layout(),
            times=RaftTimes(
                heartbeat_s=times.heartbeat_ms / 1000,
                election_min_s=times.election_ms[0] / 1000,
                election_max_s=times.election_ms[1] / 1000,
                leader_lease_s=times.leader_lease_ms / 1000,
                drift=times.drift_ppm / 1e6,
            ),
        )

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Take part. Raises KagemushaError when this node can't: then nothing of it is left but what ran before."""
        await self.member.start()
        try:
            await self.guard.start()
            await self.peers.start()
            await self.supervisor.start()
        except BaseException:
            await self.close()
            raise
        self._started = True
        self.decisions.begin()
        self._lasting = [self._keep(self._beat()), self._keep(self._announce())]

    async def extend(self) -> None:
        """Before a planned restart: have it agreed that this node's primaries serve on for RESTART_S without a
        daemon. Without agreement they stop when their leases end."""
        for program, token in self.supervisor.leases():
            sent_s = boottime_s()
            name = f"{self.node}.{self.peers.incarnation}.extend.{program}.{token}"
            try:
                result = await self.propose(Extend(name, program, token, RESTART_S))
            except RaftError as error:
                log.warning("a lease is not extended", program=program, reason=error.what)
                continue
            if isinstance(result, Ok):
                self.supervisor.extended(program, token, sent_s, RESTART_S)
                await self.supervisor.loosen(program, RESTART_S)

    async def close(self) -> None:
        """Leave; programs and agents go on until their leases end."""
        self._started = False
        await self.decisions.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.supervisor.close()
        await self.peers.close()
        await self.member.close()
        self.guard.close()

    async def failed(self) -> KagemushaError:
        """Wait until this node can't take part any more; gives why."""
        return await first_failure(self.node, self.member.failed(), self._lasting)

    # ------------------------------------------------------------ for people

    @property
    def leader(self) -> Leadership:
        """Who leads, as far as this node knows."""
        return self.member.leadership()

    async def propose(self, command: Command) -> Result:
        """Have a command agreed. Raises the errors of `cluster.raft.errors`."""
        return decode_result(await self.member.propose(encode(command), COMMIT_S))

    def heartbeat_ages_s(self) -> dict[NodeId, float]:
        """Of every node that was heard from: seconds since then."""
        now_s = boottime_s()
        return {node: now_s - at_s for node, at_s in self._heard_at_s.items()}

    async def ask(self, node: NodeId, order: OrderBody, limit_s: float = 0.0) -> AnswerBody:
        """Ask another node (or this one) for what changes nothing, Look say. Raises KagemushaError, also as soon as
        that node is not heard any more.

        limit_s: for the answer, where it takes longer than such answers do.
        """
        limit_s = max(limit_s, self.config.times.request_ms / 1000)
        asking = asyncio.create_task(self.peers.ask(node, 0, order, limit_s))
        try:
            while not (await asyncio.wait({asking}, timeout=HEARD_S / 4))[0]:
                if self.heartbeat_ages_s().get(node, 0.0) > HEARD_S:
                    raise OrderLost(f"node {node} is not heard any more", hint="does its daemon hang?")
            return asking.result()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    # ------------------------------------------------------------ agreement

    def _apply(self, data: bytes) -> bytes:
        result = self.registry.apply_bytes(data)
        try:
            command = decode_command(data)
        except FrameError:
            return result
        for hear in self.on_applied:
            hear(command, decode_result(result))
        self._term_seen = max(self._term_seen, self.registry.term)
        program: ProgramId = getattr(command, "program", "") or getattr(command, "program_id", "")
        if not self.decisions.proposed(command):
            self._later(self.decisions.tell, RegistryChanged(program))
        if isinstance(command, DeleteProgram):
            self._later(self._forget_deleted, program)
        return result

    def _restore(self, data: bytes) -> None:
        self.registry.load(data)
        self._later(self.decisions.tell, RegistryChanged(""))

    def _forget_deleted(self, program: ProgramId) -> None:
        """End what is here of a program that was deleted; not before this node knows all that was decided meanwhile."""
        if self._caught_up and program in self.supervisor.instances and program not in self.registry.programs:
            self._keep(self._quietly(self.supervisor.carry_out(Forget(program))))

    async def _quietly(self, job: Coroutine[Any, Any, object]) -> None:
        try:
            await job
        except KagemushaError as error:
            log.warning("not done", reason=error.what, hint=error.hint)

    async def _announce(self) -> None:
        """Tell the registry where this node can be reached; then it is known here what was decided meanwhile."""
        own = self.config.own
        command = SetNode(f"{self.node}.{self.peers.incarnation}", self.node, own.address, own.admin)
        told = ""
        while not self._caught_up:
            try:
                result = await self.propose(command)
            except RaftError as error:
                if error.what != told:
                    log.info("this node waits for agreement", reason=error.what, hint=error.hint)
                told = error.what
                # A member that has failed refuses at once: whoever ends this node for it must come to that.
                await asyncio.sleep(_ANNOUNCE_AGAIN_S)
                continue
            if not isinstance(result, Ok):
                log.error("this node is not taken into the registry", reason=result.reason, hint=result.hint)
                return
            self._caught_up = True
        for program in tuple(self.supervisor.instances):
            self._forget_deleted(program)
        for entry in tuple(self.registry.programs.values()):
            if entry.primary == self.node and entry.extension is not None:
                self._keep(self._end_extension(entry.program_id, entry.token, entry.extension.extension_id))

    async def _end_extension(self, program: ProgramId, token: int, extension_id: str) -> None:
        """The extended lease of a primary here ends as soon as the watchdog goes by a lease that this daemon was
        granted. Before that, or on a node that only has the name of this one, its program may serve until the extension
        ends by itself."""
        if await self.supervisor.in_hand(program, token):
            name = f"{self.node}.{self.peers.incarnation}.back.{program}"
            await self._quietly(self.propose(EndExtension(name, program, token, extension_id)))

    # ------------------------------------------------------------ other nodes

    def _deliver(self, node: NodeId, message: NodeMessage) -> None:
        if node == self.node:
            self._heard(node, message)
        else:
            self.peers.send(node, message)

    def _heard(self, node: NodeId, message: NodeMessage) -> None:
        match message:
            case Heartbeat():
                self._heard_at_s[node] = boottime_s()
                if node != self.node:
                    now_ns = boottime_ns()
                    self.supervisor.meter.round_trips.heard(now_ns, node, message.sent_ns, message.echoes)
                for news in self.desk.heartbeat(node, message):
                    self.decisions.tell(news)
            case RenewLease(program, token, sent_s):
                self.decisions.tell(LeaseAsked(node, program, token, sent_s))
            case Grant(program, token, sent_s, granted_s):
                self.supervisor.granted(program, token, sent_s, granted_s)
            case LeaseRefused(program, token, reason, replaced):
                self.supervisor.refused(program, token, reason, replaced=replaced)
            case _:
                pass

    async def _ordered(self, node: NodeId, term: int, order: OrderBody) -> AnswerBody:
        if not isinstance(order, Question):
            if term < self._term_seen:
                raise KagemushaError(f"node {node} orders for term {term}; node {self.node} knows {self._term_seen}")
            self._term_seen = term
        return await self.supervisor.carry_out(order)

    def _connected(self, node: NodeId) -> None:
        self.desk.forget_told(node)
        self._beat_soon()

    def _lost(self, node: NodeId) -> None:
        self.supervisor.meter.round_trips.forget(node)
        self.decisions.tell(NodeClosed(node))

    # ------------------------------------------------------------ heartbeats and leases

    async def _beat(self) -> None:
        interval_s = self.config.times.heartbeat_ms / 1000
        due_s = boottime_s()
        while True:
            for program, token in self.supervisor.leases():
                self._ask_lease(program, token)
            now_s = boottime_s()
            self.supervisor.meter.condition.beat(now_s, now_s - due_s)
            self._beat_now()
            due_s = boottime_s() + interval_s
            await asyncio.sleep(interval_s)

    def _beat_soon(self) -> None:
        """Something has changed: everybody is to know at once."""
        if self._started and not self._beat_due:
            self._beat_due = True
            self._later(self._beat_now)

    def _beat_now(self) -> None:
        self._beat_due = False
        self._beats += 1
        sent_ns = boottime_ns()
        echoes = self.supervisor.meter.round_trips.echoes(sent_ns)
        beat = Heartbeat(self._beats, sent_ns, self.supervisor.load, self.supervisor.states(), echoes)
        self.peers.send_to_all(beat)
        self._heard(self.node, beat)

    def _agreed_incarnation(self, program: ProgramId) -> int:
        entry = self.registry.programs.get(program)
        one = None if entry is None else entry.instance_on(self.node)
        return 0 if one is None else one.incarnation

    def _ask_lease(self, program: ProgramId, token: int) -> None:
        if not self.guard.is_watched:
            return  # Without a watchdog nobody would stop the program at the lease's end.
        leader = self.member.leadership().leader
        if leader is not None:
            self._deliver(leader, RenewLease(program, token, boottime_s()))

    def _later(self, call: Callable[..., object], *arguments: object) -> None:
        asyncio.get_running_loop().call_soon(call, *arguments)

    def _keep(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the daemon failed", exc_info=error)
