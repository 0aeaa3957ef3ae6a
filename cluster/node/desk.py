"""What nodes tell in heartbeats, as news for the leader's decisions. Pure.

A change is told once to each leader; what must not be lost (that a program ended or fails its health checks, that an
agent is gone) is told with every heartbeat for as long as it is so.
"""

from __future__ import annotations

from cluster.leader.news import (
    AgentLost,
    HealthChanged,
    InstanceEnded,
    InstanceReported,
    MirrorReported,
    News,
    NodeHeard,
)
from cluster.leader.selection import Held
from cluster.node.messages import Heartbeat, InstanceState, Load
from cluster.registry.values import NodeId, Placement, ProgramId
from transport.checkpoint import NOTHING


class Desk:
    """Remembers what it told. `states`: the newest of every instance, by program and node."""

    def __init__(self) -> None:
        self.states: dict[tuple[ProgramId, NodeId], InstanceState] = {}
        self.loads: dict[NodeId, Load] = {}
        self._told: dict[tuple[ProgramId, NodeId], InstanceReported] = {}
        self._unwell: set[tuple[ProgramId, NodeId]] = set()

    def forget_told(self, node: NodeId = "") -> None:
        """Another leader is to hear everything again, of one node or of all."""
        self._told = {key: told for key, told in self._told.items() if node not in ("", key[1])}

    def heartbeat(self, node: NodeId, beat: Heartbeat) -> list[News]:
        """A heartbeat of a node (or of this one) as news."""
        self.loads[node] = beat.load
        gone = {key for key in self.states if key[1] == node} - {(state.program, node) for state in beat.instances}
        for key in gone:
            del self.states[key]
            self._told.pop(key, None)
            self._unwell.discard(key)
        news: list[News] = [NodeHeard(node)]
        for state in beat.instances:
            self.states[state.program, node] = state
            news += self._instance(node, state)
        return news

    def answer(self, program: ProgramId, node: NodeId, state: InstanceState | None, load: Load) -> list[News]:
        """The answer of a node that was asked what its mirror holds; None: there is no instance."""
        self.loads[node] = load
        if state is None:
            held = Held(str(Placement(program, node)), 0, "stopped", NOTHING)
            return [MirrorReported(program, node, held, asked=True)]
        self.states[program, node] = state
        news = self._instance(node, state)
        return [*(one for one in news if not isinstance(one, MirrorReported)), _mirror(node, state, load, asked=True)]

    def stream_of(self, program: ProgramId, node: NodeId) -> str:
        """Where mirrors subscribe to this instance, "" when that is not known."""
        state = self.states.get((program, node))
        return state.stream if state is not None else ""

    def _instance(self, node: NodeId, state: InstanceState) -> list[News]:
        program = state.program
        report = InstanceReported(
            program,
            node,
            state.role,
            state.status,
            state.incarnation,
            state.token,
            state.reason,
            state.stream,
            state.fence_id,
        )
        news: list[News] = []
        ended = state.ended
        if ended is not None:
            how = (ended.status, ended.final, ended.fenced, ended.reason, ended.took_us / 1e6, ended.holders)
            news.append(InstanceEnded(program, ended.token, node, *how))
        elif state.agent_lost:
            news.append(AgentLost(program, state.token, node, alive=True))
        if state.role == "primary" and (state.unhealthy or (program, node) in self._unwell):
            (self._unwell.add if state.unhealthy else self._unwell.discard)((program, node))
            news.append(HealthChanged(program, state.token, state.unhealthy))
        if self._told.get((program, node)) != report:
            self._told[program, node] = report
            news.append(report)
        if state.role == "mirror":
            news.append(_mirror(node, state, self.loads[node], asked=False))
        return news


def _mirror(node: NodeId, state: InstanceState, load: Load, *, asked: bool) -> MirrorReported:
    held = Held(
        str(Placement(state.program, node)),
        state.incarnation,
        state.status,
        state.version,
        state.captured_ns,
        state.staleness_ms,
        load.cpu,
        load.latency_ms,
        load.trouble or state.unhealthy,
    )
    return MirrorReported(state.program, node, held, asked)
