"""The leader's decisions on this node: they are told what happens, and what they order is performed in its order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog

from cluster.leader.failover import Failover
from cluster.leader.news import Committed, Leading, News, NotLeading, Tick
from cluster.leader.orders import Answer, Commit, GrantLease, Note, Order, RefuseLease
from cluster.node.desk import Desk
from cluster.node.errands import Errands
from cluster.node.messages import Grant, LeaseRefused, NodeMessage
from cluster.node.peers import Peers
from cluster.raft.errors import RaftError
from cluster.raft.lease import Leadership
from cluster.registry.commands import Command, Result
from cluster.registry.state_machine import Registry
from cluster.registry.values import NodeId
from transport.clock import boottime_s
from transport.errors import FrameError, KagemushaError

log = structlog.get_logger()


class Decisions:
    """What one node decides while it leads. Whoever serves the API may read `failover`.

    leadership: who leads, as this node knows it. propose: has a command agreed. deliver: sends to a node, or to this
    one. keep: begins a job of the daemon's, and ends it with the daemon. order_s: for the answer to an order. on_note:
    hears of what the leader did.
    """

    def __init__(
        self,
        node: NodeId,
        failover: Failover,
        registry: Registry,
        peers: Peers,
        desk: Desk,
        leadership: Callable[[], Leadership],
        propose: Callable[[Command], Awaitable[Result]],
        deliver: Callable[[NodeId, NodeMessage], None],
        keep: Callable[[Coroutine[Any, Any, None]], object],
        order_s: float,
    ) -> None:
        self.failover = failover
        self._node = node
        self.on_note: list[Callable[[Note], None]] = []
        self._desk = desk
        self._leadership = leadership
        self._propose = propose
        self._deliver = deliver
        self._keep = keep
        self._errands = Errands(peers, desk, lambda: registry.programs, lambda: self._term, self.tell, order_s)
        self._term = 0
        self._own: set[str] = set()
        self._waiting: dict[str, asyncio.Future[Result]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False

    def begin(self) -> None:
        """Decide from now on; what was told before was of no consequence."""
        self._begun = True

    async def close(self) -> None:
        """Decide nothing any more; what nodes were told they finish."""
        self._begun = False
        if self._timer is not None:
            self._timer.cancel()
        await self._errands.close()

    async def request(self, request_id: str, news: News, timeout_s: float) -> Result:
        """Ask, on the node that leads, for what a person wants; `news` has that request id.

        Raises KagemushaError when there is no answer in time: then it is not known what becomes of it.
        """
        future = self._waiting.get(request_id)
        if future is None:
            future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
            self.tell(news)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            raise KagemushaError(f"no answer within {timeout_s:g} s", hint="look at its status") from None
        finally:
            if future.done():
                self._waiting.pop(request_id, None)

    def proposed(self, command: Command) -> bool:
        """Whether it was proposed here, and its outcome is going to be told."""
        return command.request_id in self._own

    def tell(self, news: News) -> None:
        """Something has happened: do what is ordered for it."""
        if not self._begun:
            return
        self.see_leadership()
        self._perform(self.failover.step(boottime_s(), news))
        self._set_timer()

    def see_leadership(self) -> None:
        """Who leads may have changed, or until when."""
        if not self._begun:
            return
        leadership, now_s = self._leadership(), boottime_s()
        if leadership.holds(now_s) and leadership.lease_until_s is not None:
            if leadership.term != self._term:
                log.info("this node leads", term=leadership.term)
                self._term = leadership.term
                self._desk.forget_told()
            news = Leading(leadership.term, leadership.lease_until_s, time.time(), leadership.heard_s)
            self._perform(self.failover.step(now_s, news))
        elif self._term and leadership.leader != self._node:
            log.info("this node leads no more", term=self._term)
            self._term = 0
            self._perform(self.failover.step(now_s, NotLeading()))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_s = self.failover.deadline_s
        if deadline_s is not None:
            wait_s = max(deadline_s - boottime_s(), 0.001)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.tell, Tick())

    def _perform(self, orders: Sequence[Order]) -> None:
        for order in orders:
            match order:
                case Commit(command):
                    self._own.add(command.request_id)
                    self._keep(self._commit(command))
                case GrantLease(node, program, token, sent_s, granted_s):
                    self._deliver(node, Grant(program, token, sent_s, granted_s))
                case RefuseLease(node, program, token, reason, replaced):
                    self._deliver(node, LeaseRefused(program, token, reason, replaced))
                case Answer(request_id, result):
                    future = self._waiting.pop(request_id, None)
                    if future is not None and not future.done():
                        future.set_result(result)
                case Note(program, what, token, parts):
                    # As one value: names of steps are no names of fields.
                    log.info(what, program=program, token=token, **({"timeline": dict(parts)} if parts else {}))
                    for hear in self.on_note:
                        hear(order)
                case _:
                    self._errands.run(order)

    async def _commit(self, command: Command) -> None:
        result: Result | None
        try:
            result = await self._propose(command)
        except (RaftError, FrameError) as error:
            log.warning("a command is without an outcome", command=type(command).__name__, reason=error.what)
            result = None
        self._own.discard(command.request_id)
        self.tell(Committed(command, result))
