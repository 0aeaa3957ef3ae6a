"""Links between daemons: real TLS over the loopback, nodes that come, go, come again, and those that must not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.config import NodeConfig, host_and_port
from cluster.node.messages import (
    NODE,
    AnswerBody,
    Done,
    Greet,
    Heartbeat,
    HeldAt,
    Hold,
    LetGo,
    Load,
    NodeMessage,
    OrderBody,
    RenewLease,
    Report,
    Unwelcome,
)
from cluster.node.peers import Handlers, OrderLost, Peers
from tests.cluster.cluster_of import configs, tls_of
from transport.checkpoint import Version
from transport.errors import KagemushaError
from transport.link import Conversation, connect

DEADLINE_S = 20.0


class Node:
    """One node's links, and what was said to it."""

    def __init__(self, config: NodeConfig) -> None:
        self.heard: list[tuple[str, NodeMessage]] = []
        self.terms: list[tuple[str, int]] = []
        self.changes: list[str] = []
        self.changed = asyncio.Event()
        self.stuck = asyncio.Event()
        handlers = Handlers(
            lambda node, message: self._note(node, message),
            self._carry_out,
            lambda node: self._change(f"+{node}"),
            lambda node: self._change(f"-{node}"),
        )
        self.peers = Peers(config, tls_of(config), handlers)

    def _note(self, node: str, message: NodeMessage) -> None:
        self.heard.append((node, message))
        self.changed.set()

    def _change(self, what: str) -> None:
        self.changes.append(what)
        self.changed.set()

    async def _carry_out(self, node: str, term: int, order: OrderBody) -> AnswerBody:
        self.terms.append((node, term))
        match order:
            case Hold():
                return HeldAt(Version(7, 8, 9))
            case LetGo(program):
                raise KagemushaError(f"{program} is not here", hint="look elsewhere")
            case Report():
                self.stuck.set()
                await asyncio.Event().wait()
        return Done()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something to be so, after each thing that this node is told."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def started(*all_configs: NodeConfig) -> AsyncIterator[list[Node]]:
    """Nodes that are connected to each other."""
    nodes = [Node(config) for config in all_configs]
    try:
        for node in nodes:
            await node.peers.start()
        for node in nodes:
            await node.until(lambda node=node: len(node.changes) == len(nodes) - 1)  # type: ignore[misc]
        yield nodes
    finally:
        for node in nodes:
            await node.peers.close()


async def test_messages_and_orders_between_three_nodes(tmp_path: Path) -> None:
    async with started(*configs(tmp_path).values()) as (a, b, c):
        beat = Heartbeat(1, 2, Load(0.5, 3), ())
        a.peers.send_to_all(beat)
        assert b.peers.send("c", RenewLease("redis", 1, 2.0))
        await b.until(lambda: ("a", beat) in b.heard)
        await c.until(lambda: len(c.heard) == 2)
        assert sorted(node for node, _ in c.heard) == ["a", "b"]
        assert await a.peers.ask("b", 5, Hold("redis", 1, "f"), DEADLINE_S) == HeldAt(Version(7, 8, 9))
        assert await a.peers.ask("a", 6, Hold("redis", 1, "f"), DEADLINE_S) == HeldAt(Version(7, 8, 9))
        assert (b.terms, a.terms) == ([("a", 5)], [("a", 6)])
        with pytest.raises(KagemushaError, match="redis is not here") as refused:
            await c.peers.ask("b", 7, LetGo("redis", 1), DEADLINE_S)
        assert refused.value.hint == "look elsewhere"


async def test_an_order_without_an_answer_says_so(tmp_path: Path) -> None:
    async with started(*configs(tmp_path).values()) as (a, b, c):
        with pytest.raises(OrderLost, match="node b has not answered Report"):
            await a.peers.ask("b", 1, Report("redis"), 0.05)
        waiting = asyncio.create_task(a.peers.ask("c", 1, Report("redis"), DEADLINE_S))
        await c.stuck.wait()
        await c.peers.close()
        with pytest.raises(OrderLost, match="ended before the answer"):
            await waiting
        await b.until(lambda: "-c" in b.changes)
        assert not b.peers.is_connected("c")
        with pytest.raises(OrderLost, match="node c is not connected"):
            await b.peers.ask("c", 1, Hold("redis", 1, "f"), DEADLINE_S)


async def test_a_node_that_comes_again_is_connected_again(tmp_path: Path) -> None:
    all_configs = configs(tmp_path, ("a", "b"))
    async with started(*all_configs.values()) as (a, b):
        await b.peers.close()
        await a.until(lambda: a.changes[-1] == "-b")
        again = Node(all_configs["b"])
        await again.peers.start()
        try:
            await a.until(lambda: a.changes[-1] == "+b")
            assert await a.peers.ask("b", 1, Hold("redis", 1, "f"), DEADLINE_S) == HeldAt(Version(7, 8, 9))
        finally:
            await again.peers.close()


async def refusal_of(node: Node, by: str) -> str:
    """What another node says against this one."""
    async with asyncio.timeout(DEADLINE_S):
        while by not in node.peers.refusals:
            await asyncio.sleep(0)
    return node.peers.refusals[by].what


async def test_a_second_node_of_the_same_id_is_refused(tmp_path: Path) -> None:
    all_configs = configs(tmp_path, ("a", "b"))
    async with started(*all_configs.values()) as (a, b):
        talk: Conversation[NodeMessage] = Conversation(NODE, lambda: 0)
        where = host_and_port(all_configs["a"].own.address)
        twin = await connect(*where, tls_of(all_configs["b"]), "a", talk)
        # As long as the other one speaks: it does here, all the time.
        b.peers.send("a", Heartbeat(1, 2, Load(0.5, 3), ()))
        await a.until(lambda: bool(a.heard))
        await twin.send(Greet(all_configs["b"].membership(), b.peers.incarnation + 1))
        answer = await twin.receive()
        assert isinstance(answer, Unwelcome)
        assert answer.what == "another node b is connected"
        await twin.close()
        assert a.changes == ["+b"]


async def test_nodes_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    all_configs = configs(tmp_path, ("a", "b"))
    older = all_configs["b"].model_copy(
        update={"cluster": all_configs["b"].cluster.model_copy(update={"id": "another"})}
    )
    a, b = Node(all_configs["a"]), Node(older)
    await a.peers.start()
    await b.peers.start()
    try:
        assert "differ between node b and node a" in await refusal_of(b, "a")
        assert not a.changes
    finally:
        await a.peers.close()
        await b.peers.close()


async def test_a_node_of_another_authority_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    ours, theirs = configs(tmp_path / "one", ("a", "b")), configs(tmp_path / "other", ("a", "b"))
    a = Node(ours["a"])
    stranger = Node(theirs["b"].model_copy(update={"nodes": ours["b"].nodes}))
    await a.peers.start()
    await stranger.peers.start()
    try:
        assert "certificate" in await refusal_of(stranger, "a")
        assert not a.changes
    finally:
        await a.peers.close()
        await stranger.peers.close()
