"""The links to all other nodes: kept up, greeted, and used for heartbeats, leases, orders and answers.

Every node opens a link to every other one, so that two nodes have two; messages take the own one, else the other's.
A node counts as connected while there is any, and is told to be gone in the moment in which the last one ends.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from cluster.config import NodeConfig, NodeSettings, host_and_port
from cluster.node.line import Line
from cluster.node.messages import (
    ANSWERS,
    NODE,
    ORDERS,
    Answer,
    AnswerBody,
    Greet,
    NodeMessage,
    NotDone,
    Order,
    OrderBody,
    Unwelcome,
    Welcome,
)
from cluster.registry.values import NodeId
from transport.errors import FrameError, KagemushaError, PeerRefused, StaleUpdate
from transport.link import Conversation, Link, LinkLost, LinkServer, connect, serve
from transport.tls import Tls

log = structlog.get_logger()

HANDSHAKE_S: Final = 2.0
RETRY_S: Final = (0.05, 0.5)
"""Wait before a link is opened again: first and longest."""
DUPLICATE_S: Final = 1.0
"""A node that was heard from within this time is alive: a second one with its certificate is refused."""
ORDERS_MAX: Final = 256


class OrderLost(KagemushaError):
    """There was no answer: the order may have been carried out or not."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who is told what. message: everything but orders and answers. order: carries one out, given the sender, the
    leader's term and the order; what it raises as KagemushaError becomes NotDone. connected, lost: a node came, is
    gone."""

    message: Callable[[NodeId, NodeMessage], None]
    order: Callable[[NodeId, int, OrderBody], Awaitable[AnswerBody]]
    connected: Callable[[NodeId], None]
    lost: Callable[[NodeId], None]


class Peers:
    """This node's links. `refusals`: node -> why it is not connected, for a person."""

    def __init__(self, config: NodeConfig, tls: Tls, handlers: Handlers) -> None:
        self.incarnation = time.time_ns()
        self.refusals: dict[NodeId, KagemushaError] = {}
        self.own = config.node.id
        self._config = config
        self._tls = tls
        self._handlers = handlers
        self._talk: Conversation[NodeMessage] = Conversation(NODE, lambda: 0)
        self._outgoing: dict[NodeId, Line] = {}
        self._incoming: dict[NodeId, Line] = {}
        self._incarnations: dict[NodeId, int] = {}
        self._objections: dict[NodeId, str] = {}
        self._heard_s: dict[NodeId, float] = {}
        self._waiting: dict[int, tuple[Line | None, asyncio.Future[AnswerBody]]] = {}
        self._number = 0
        self._server: LinkServer[NodeMessage] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, and begin to open links. Raises PeerRefused when this node's address can't be used."""
        host, port = host_and_port(self._config.own.address)
        self._server = await serve(host, port, self._tls, self._attend, self._talk, HANDSHAKE_S)
        for other in self._config.others:
            self._spawn(self._keep(other))

    async def close(self) -> None:
        """End all links; orders that wait are lost."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.close()

    def is_connected(self, node: NodeId) -> bool:
        """Whether there is a link to this node."""
        return self._line(node) is not None

    def send(self, node: NodeId, message: NodeMessage) -> bool:
        """Send a message soon; False when the node is not connected. Whether it arrives is not known."""
        line = self._line(node)
        return line is not None and line.send(message)

    def send_to_all(self, message: NodeMessage) -> None:
        """Send a message to every node that is connected."""
        for other in self._config.others:
            self.send(other.id, message)

    async def ask(self, node: NodeId, term: int, order: OrderBody, timeout_s: float) -> AnswerBody:
        """Give an order and return the answer (never NotDone: that is raised as KagemushaError).

        An order to this node itself takes the same way but for the network. Raises OrderLost.
        """
        self._number += 1
        number = self._number
        future: asyncio.Future[AnswerBody] = asyncio.get_running_loop().create_future()
        kind, body = ORDERS.encode(order)
        message = Order(number, term, int(timeout_s * 1000), kind, body)
        line = None if node == self.own else self._line(node)
        self._waiting[number] = (line, future)
        try:
            if node == self.own:
                self._spawn(self._carry_out(None, message))
            elif line is None or not line.send(message):
                raise OrderLost(f"node {node} is not connected", hint=self._why(node))
            # Not wait_for(): that of Python 3.11 forgets that it was cancelled if the answer comes at the same time.
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            raise OrderLost(f"node {node} has not answered {type(order).__name__} within {timeout_s:g} s") from None
        finally:
            del self._waiting[number]
        if isinstance(answer, NotDone):
            raise KagemushaError(answer.what, hint=answer.hint)
        return answer

    def _why(self, node: NodeId) -> str:
        refusal = self.refusals.get(node)
        return refusal.what if refusal is not None else "is its daemon running?"

    def _line(self, node: NodeId) -> Line | None:
        for lines in (self._outgoing, self._incoming):
            line = lines.get(node)
            if line is not None and not line.lost:
                return line
        return None

    def _spawn(self, job: Awaitable[None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ opening

    async def _keep(self, other: NodeSettings) -> None:
        """Keep a link to one node, for ever."""
        wait_s = RETRY_S[0]
        while True:
            try:
                await self._open(other)
                wait_s = RETRY_S[0]
            except (LinkLost, FrameError, StaleUpdate, PeerRefused) as error:
                self._note_refusal(other.id, error)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(wait_s * 2, RETRY_S[1])

    async def _open(self, other: NodeSettings) -> None:
        link = await connect(*host_and_port(other.address), self._tls, other.id, self._talk, HANDSHAKE_S)
        try:
            await link.send(Greet(self._config.membership(), self.incarnation))
            async with asyncio.timeout(HANDSHAKE_S):
                answer = await link.receive()
        except TimeoutError:
            link.abort()
            raise PeerRefused(f"{link.where}: node {other.id} does not answer the greeting") from None
        except BaseException:
            link.abort()
            raise
        if not isinstance(answer, Welcome):
            link.abort()
            if isinstance(answer, Unwelcome):
                raise PeerRefused(f"{link.where}: node {other.id}: {answer.what}", hint=answer.hint)
            raise PeerRefused(f"{link.where}: node {other.id} closed the link instead of a welcome")
        self.refusals.pop(other.id, None)
        self._incarnations[other.id] = answer.incarnation
        try:
            await self._use(Line(link), self._outgoing)
        finally:
            link.abort()

    def _note_refusal(self, node: NodeId, error: KagemushaError) -> None:
        known = self.refusals.get(node)
        if known is None or known.what != error.what:
            log.warning("a node is not reached", node=node, reason=error.what, hint=error.hint)
        self.refusals[node] = error

    # ------------------------------------------------------------ being opened to

    async def _attend(self, link: Link[NodeMessage]) -> None:
        """Have a link that another node opened."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                greeting = await link.receive()
        except TimeoutError:
            return
        if not isinstance(greeting, Greet):
            return
        objection = self._objection(link.peer, greeting)
        if objection is not None:
            if self._objections.get(link.peer) != objection.what:  # It asks again and again.
                log.warning("a node is refused", node=link.peer, where=link.where, reason=objection.what)
            self._objections[link.peer] = objection.what
            await link.send(objection)
            return
        self._objections.pop(link.peer, None)
        self._incarnations[link.peer] = greeting.incarnation
        await link.send(Welcome(self.incarnation))
        await self._use(Line(link), self._incoming)

    def _objection(self, node: NodeId, greeting: Greet) -> Unwelcome | None:
        if node not in {other.id for other in self._config.others}:
            return Unwelcome(
                f"node {node} is none of the others in node {self.own}'s node.toml",
                "have the same [[nodes]] on every node, and one daemon of each",
            )
        if greeting.membership != self._config.membership():
            return Unwelcome(
                f"[cluster], [[nodes]] or [times] differ between node {node} and node {self.own}",
                "have the same node.toml on every node, but for [node] id",
            )
        known = self._incarnations.get(node, greeting.incarnation)
        alive = self.is_connected(node) and time.monotonic() - self._heard_s.get(node, 0.0) < DUPLICATE_S
        if known != greeting.incarnation and alive:
            return Unwelcome(f"another node {node} is connected", "every node needs an id and a certificate of its own")
        return None

    # ------------------------------------------------------------ using

    async def _use(self, line: Line, lines: dict[NodeId, Line]) -> None:
        node = line.node
        was_connected = self.is_connected(node)
        old = lines.get(node)
        lines[node] = line
        if old is not None:
            old.drop()
        self._heard_s[node] = time.monotonic()
        if not was_connected:
            log.info("a node is connected", node=node)
            self._handlers.connected(node)
        try:
            await line.run(self._take)
        finally:
            self._forget(line, lines)

    def _forget(self, line: Line, lines: dict[NodeId, Line]) -> None:
        line.lost = True
        node = line.node
        if lines.get(node) is line:
            del lines[node]
        for _, future in [entry for entry in self._waiting.values() if entry[0] is line]:
            if not future.done():
                future.set_exception(OrderLost(f"the link to node {node} ended before the answer"))
        if not self.is_connected(node):
            log.info("a node is lost", node=node)
            self._handlers.lost(node)

    def _take(self, line: Line, message: NodeMessage) -> None:
        self._heard_s[line.node] = time.monotonic()
        match message:
            case Order():
                if len(self._tasks) > ORDERS_MAX:
                    line.drop()
                else:
                    self._spawn(self._carry_out(line, message))
            case Answer():
                self._answered(message)
            case Greet() | Welcome() | Unwelcome():
                raise FrameError(f"node {line.node} sends {type(message).__name__} after the greeting")
            case _:
                self._handlers.message(line.node, message)

    def _answered(self, answer: Answer) -> None:
        body = ANSWERS.decode(answer.kind, answer.body)
        _, future = self._waiting.get(answer.number, (None, None))
        if future is not None and not future.done():
            future.set_result(body)

    async def _carry_out(self, line: Line | None, order: Order) -> None:
        body: AnswerBody
        try:
            async with asyncio.timeout(order.timeout_ms / 1000):
                wanted = ORDERS.decode(order.kind, order.body)
                body = await self._handlers.order(line.node if line else self.own, order.term, wanted)
        except KagemushaError as error:
            body = NotDone(error.what, error.hint)
        except TimeoutError:
            body = NotDone(f"not done within {order.timeout_ms} ms", "")
        except Exception as error:
            log.exception("an order failed")
            body = NotDone(f"the daemon of node {self.own} failed: {error!r}"[:1000], "its log says where")
        answer = Answer(order.number, *ANSWERS.encode(body))
        if line is None:
            self._answered(answer)
        else:
            line.send(answer)
