"""The leader's orders to nodes, carried there, and what comes of them as news."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from cluster.leader.news import (
    ActivateDone,
    ActivateFailed,
    ActivateWaits,
    FenceConfirmed,
    InstanceEnded,
    News,
    SwitchFailed,
    SwitchHeld,
)
from cluster.leader.orders import (
    ActivateOn,
    AskFence,
    AskMirrors,
    GetReadyOn,
    RebuildOn,
    ReleaseOn,
    RestartOn,
    ResumeOn,
    SwitchOn,
    TerminateOn,
)
from cluster.node.desk import Desk
from cluster.node.messages import (
    ActivateHere,
    AnswerBody,
    DoesNotServe,
    Done,
    GetReadyHere,
    HeldAt,
    Hold,
    LetGo,
    MirrorFrom,
    OrderBody,
    Report,
    Reported,
    ServeOn,
    Serves,
    Start,
    Stop,
    StopServing,
    Waits,
)
from cluster.node.peers import OrderLost, Peers
from cluster.registry.values import NodeId, ProgramEntry, ProgramId
from transport.errors import KagemushaError

log = structlog.get_logger()

NodeOrder = (
    AskFence
    | AskMirrors
    | GetReadyOn
    | ActivateOn
    | RestartOn
    | SwitchOn
    | ResumeOn
    | ReleaseOn
    | RebuildOn
    | TerminateOn
)
START_S: Final = 60.0
REASON_CHARS_MAX: Final = 512
_KILLED: Final = 9
"""The wait status of a program whose end nobody saw."""


class Errands:
    """Carries orders out, each in a task of its own; one that is under way to a node is not given a second time.

    tell: takes the news of what came of it. term: of this leader, as every order carries it.
    """

    def __init__(
        self,
        peers: Peers,
        desk: Desk,
        programs: Callable[[], Mapping[ProgramId, ProgramEntry]],
        term: Callable[[], int],
        tell: Callable[[News], None],
        order_s: float,
    ) -> None:
        self._peers = peers
        self._desk = desk
        self._programs = programs
        self._term = term
        self._tell = tell
        self._order_s = order_s
        self._under_way: dict[tuple[NodeId, OrderBody], asyncio.Task[None]] = {}

    def run(self, order: NodeOrder) -> None:
        """Begin to carry out an order."""
        match order:
            case AskMirrors(program, nodes):
                for node in nodes:
                    self._begin(node, Report(program), order)
            case AskFence(node, program, token, fence_id):
                self._begin(node, StopServing(program, token, fence_id), order)
            case GetReadyOn(node, program, token, version):
                self._begin(node, GetReadyHere(program, token, version), order)
            case ActivateOn(node, program, token, version):
                self._begin(node, ActivateHere(program, token, version), order)
            case RestartOn(node, program, token):
                if program in self._programs():
                    self._begin(node, Start(program, self._programs()[program].config_file, token), order)
            case SwitchOn(node, program, token, fence_id):
                self._begin(node, Hold(program, token, fence_id), order)
            case ResumeOn(node, program, token, fence_id):
                self._begin(node, ServeOn(program, token, fence_id), order)
            case ReleaseOn(node, program, token):
                self._begin(node, LetGo(program, token), order)
            case TerminateOn(node, program, token):
                self._begin(node, Stop(program, token), order)
            case RebuildOn():
                self._rebuild(order)

    async def close(self) -> None:
        """Give up what is under way; the nodes finish it."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _rebuild(self, order: RebuildOn) -> None:
        entry = self._programs().get(order.program)
        if entry is None:
            return
        known = entry.instance_on(order.primary)
        stream = self._desk.stream_of(order.program, order.primary) or (known.stream if known is not None else "")
        if stream:
            body = MirrorFrom(order.program, entry.config_file, order.primary, stream, order.token)
            self._begin(order.node, body, order)

    def _begin(self, node: NodeId, body: OrderBody, order: NodeOrder) -> None:
        key = (node, body)
        if key not in self._under_way:
            task = self._under_way[key] = asyncio.create_task(self._carry(node, body, order))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))

    async def _carry(self, node: NodeId, body: OrderBody, order: NodeOrder) -> None:
        limit_s = START_S if isinstance(body, Start | MirrorFrom | Stop) else self._order_s
        try:
            answer = await self._peers.ask(node, self._term(), body, limit_s)
        except OrderLost as error:
            # Whether it was carried out is not known: it is ordered again, or the node is lost.
            log.info("an order is without an answer", node=node, order=type(body).__name__, reason=error.what)
            return
        except KagemushaError as error:
            log.warning("an order is refused", node=node, order=type(body).__name__, reason=error.what, hint=error.hint)
            self._refused(order, error)
            return
        self._answered(node, order, answer)

    def _refused(self, order: NodeOrder, error: KagemushaError) -> None:
        match order:
            case ActivateOn(node, program, token) | RestartOn(node, program, token):
                self._tell(ActivateFailed(program, token, node, fenced=False, reason=error.what))
            case SwitchOn(node, program, token):
                self._tell(SwitchFailed(program, token, node, error.what))
            case _:
                pass

    def _answered(self, node: NodeId, order: NodeOrder, answer: AnswerBody) -> None:
        match order, answer:
            case AskMirrors(program), Reported(state, load):
                for news in self._desk.answer(program, node, state, load):
                    self._tell(news)
            case AskFence(_, program, token, fence_id), _:
                self._tell(FenceConfirmed(program, token, node, fence_id))
            case ((ActivateOn(_, program, token) | RestartOn(_, program, token)), Serves(timeline)):
                self._tell(ActivateDone(program, token, node, timeline))
            case ((ActivateOn(_, program, token) | RestartOn(_, program, token)), DoesNotServe(what, _, fenced)):
                self._tell(ActivateFailed(program, token, node, fenced, what))
            case ActivateOn(_, program, token), Waits(what, hint):
                self._tell(ActivateWaits(program, token, node, f"{what}; {hint}"[:REASON_CHARS_MAX]))
            case TerminateOn(_, program, token), Done():
                # Where nothing ran no heartbeat tells of an end.
                self._tell(InstanceEnded(program, token, node, _KILLED, None, True, "a person stopped it"))
            case SwitchOn(_, program, token, fence_id), HeldAt(version, holders):
                self._tell(SwitchHeld(program, token, node, fence_id, version, holders))
            case _:
                pass
