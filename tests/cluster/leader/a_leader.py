"""A leader of three nodes that answers to no network: every command is applied at once, every order is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from cluster.leader.failover import Failover
from cluster.leader.news import (
    ActivateDone,
    Committed,
    InstanceEnded,
    InstanceReported,
    Leading,
    LeaseAsked,
    MirrorReported,
    News,
    NodeHeard,
    Tick,
)
from cluster.leader.orders import Commit, Order
from cluster.leader.selection import Held
from cluster.registry.commands import Command, CreateProgram, SetNode
from cluster.registry.state_machine import Registry
from cluster.registry.values import Policy, ProgramEntry
from transport.checkpoint import Version

O = TypeVar("O")  # noqa: E741
NODES = ("n1", "n2", "n3")
KILLED = InstanceEnded("p", 1, "n1", 9, Version(1, 6, 7), True, "killed by signal 9", 0.004)
"""The primary's last news of p."""


class Leader:
    """n3 leads; program p is on all three."""

    def __init__(self, policy: Policy | None = None, registry: Registry | None = None, term: int = 1) -> None:
        self.now_s, self.term = 100.0 * term, term
        self.registry = registry or Registry()
        self.core = Failover("n3", self.registry)
        self.applies = True
        self.silent: set[str] = set()
        if registry is None:
            for node in NODES:
                self.registry.apply(SetNode(f"node-{node}", node, "10.0.0.1:1", "10.0.0.1:2"))
            self.registry.apply(CreateProgram("create", "p", "/p.toml", "ab" * 32, NODES, policy or Policy()))
        self.orders: list[Order] = []
        self.tell(Leading(term, self.now_s + 0.3, 1e6))

    def tell(self, *news: News) -> list[Order]:
        """Tell these; return what was ordered, commands included, in order."""
        given: list[Order] = []
        waiting = list(news)
        while waiting:
            for order in self.core.step(self.now_s, waiting.pop(0)):
                given.append(order)
                if isinstance(order, Commit) and self.applies:
                    waiting.append(Committed(order.command, self.registry.apply(order.command)))
        self.orders += given
        return given

    def wait(self, seconds: float) -> list[Order]:
        """Let time pass in small steps, with heartbeats of whoever is not silent, and its own lease renewed."""
        given: list[Order] = []
        until_s = self.now_s + seconds
        while self.now_s < until_s - 1e-9:
            self.now_s = min(until_s, self.now_s + 0.01)
            given += self.tell(Leading(self.term, self.now_s + 0.29, 1e6 + self.now_s - 100))
            given += self.tell(*(NodeHeard(node) for node in NODES[:2] if node not in self.silent), Tick())
        return given

    def asks(self, node: str = "n1", token: int = 1) -> list[Order]:
        """That node asks for the lease of its primary."""
        return self.tell(LeaseAsked(node, "p", token, 5.0))

    @property
    def entry(self) -> ProgramEntry:
        return self.registry.programs["p"]

    def up(self) -> None:
        """The program is started on n1 and mirrored on the others."""
        self.tell(NodeHeard("n1"), NodeHeard("n2"))
        self.serves("n1")
        self.mirrored("n2", 5)
        self.mirrored("n3", 5)

    def serves(self, node: str) -> list[Order]:
        """That node says that it serves under the present token."""
        report = InstanceReported("p", node, "primary", "running", 1, self.entry.token)
        return self.tell(
            ActivateDone(
                "p",
                self.entry.token,
                node,
                (
                    ("address", 250),
                    ("go", 9),
                ),
            ),
            report,
        )

    def mirrored(self, node: str, number: int, asked: bool = False, token: int = 0) -> list[Order]:
        """That node's mirror says what it holds."""
        version = Version(token or self.entry.token, number, 7)
        held = Held(f"p@{node}", 1, "mirrored", version, number)
        report = InstanceReported("p", node, "mirror", "mirrored", 1, self.entry.token)
        return self.tell(report, MirrorReported("p", node, held, asked))


def of(orders: list[Order], kind: type[O]) -> list[O]:
    """Those of this kind."""
    return [order for order in orders if isinstance(order, kind)]


def commands(orders: list[Order]) -> list[Command]:
    """The commands that were proposed."""
    return [order.command for order in of(orders, Commit)]


def names(orders: list[Order]) -> list[str]:
    """The orders' names; of commands theirs."""
    return [type(order.command if isinstance(order, Commit) else order).__name__ for order in orders]


def paused(leader: Leader, value: bool) -> None:
    """Set maintenance behind the leader's back."""
    leader.registry._programs["p"] = replace(leader.entry, paused=value)


def up(policy: Policy | None = None) -> Leader:
    """p serves on n1 and is mirrored on the others; what was ordered until then is forgotten."""
    leader = Leader(policy)
    leader.up()
    leader.orders.clear()
    return leader
