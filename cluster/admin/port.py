"""What the API asks of the cluster, and how the cluster says no. The daemon's runner implements `Cluster`.

An implementation may be asked on any node. What it can't do on this one it refuses with `NotHere`, which names the
node that can; the API then asks there (`cluster.admin.forward`) and the client does not notice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

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
from cluster.metrics.table import Sample
from cluster.metrics.tally import Tally
from cluster.registry.commands import Rejected
from cluster.registry.values import InstanceId, NodeId, ProgramId
from transport.context_schema import Context
from transport.errors import KagemushaError
from transport.log_level import LevelName


class Refusal(KagemushaError):
    """The cluster does not do it. Nothing was changed."""


class Unknown(Refusal):
    """There is no such program, instance or node."""


class Exists(Refusal):
    """There is one of that name already."""


class Busy(Refusal):
    """Something else is under way for this program, or has overtaken the request."""


class Unfit(Refusal):
    """The instance is in no state for it: failed, not synced yet, stopped ..."""


class FilesDiffer(Refusal):
    """The program's file does not mean the same on every node, or is not there on one."""


class LimitReached(Refusal):
    """There are as many as there may be."""


class Invalid(Refusal):
    """The request can't be meant like that."""


class NotHere(Refusal):
    """Another node must be asked: `node`, whose API is at `admin` (`host:port`)."""

    def __init__(self, node: NodeId, admin: str) -> None:
        super().__init__(f"node {node} must be asked", hint=f"its API is at {admin}")
        self.node = node
        self.admin = admin


_BY_CODE: dict[str, type[Refusal]] = {
    "invalid": Invalid,
    "unknown": Unknown,
    "exists": Exists,
    "stale": Busy,
    "fence": Busy,
    "conflict": Busy,
    "busy": Busy,
    "unfit": Unfit,
    "limit": LimitReached,
}


def refusal_of(rejected: Rejected) -> Refusal:
    """What a person is told of a command that the registry rejected."""
    return _BY_CODE[rejected.code](rejected.reason, hint=rejected.hint)


class Cluster(Protocol):
    """The cluster as one node sees it. Ids are well formed when they come here.

    Every method may raise `Refusal`, the errors of `cluster.raft.errors` (no quorum, unknown outcome, ...) and any
    other KagemushaError; see `cluster.admin.problem` for what a client gets. A request that changes something has a
    `request_id`: the same again has the effect and the answer of once, on whichever node it arrives.
    """

    async def create(self, request: Create, request_id: str) -> ProgramView:
        """Agree on a new program and begin to start it; its file is read and compared on all its nodes first."""

    async def status(self, instance: InstanceId) -> InstanceView:
        """What the instance's agent says now, with what the leader knows of its lease."""

    async def switchover(self, instance: InstanceId, request_id: str) -> Switchover:
        """A mirror becomes the primary, a primary hands over to its best mirror. Returns when the new one serves."""

    async def context(self, instance: InstanceId) -> Context:
        """The schema of what the instance holds."""

    async def structures(self, instance: InstanceId, name: str, elements: int) -> StructuresView:
        """The named structures of the instance; with the content of one, if it is named."""

    async def programs(self) -> tuple[ProgramView, ...]:
        """All programs, ascending by id, as this node's registry has them."""

    async def nodes(self) -> tuple[NodeView, ...]:
        """All nodes, ascending by id."""

    async def start(self, program: ProgramId, request_id: str) -> ProgramView:
        """Start a program that is stopped or has failed. Returns when it is agreed who starts it."""

    async def stop(self, program: ProgramId, request_id: str) -> ProgramView:
        """End the program on every node, and keep it in the registry. Returns when it has ended."""

    async def shutdown(self, program: ProgramId, request_id: str) -> ProgramView:
        """End the program as `stop` does, and have it remembered that it is to be started when the cluster is back."""

    async def delete(self, program: ProgramId, request_id: str) -> None:
        """End the program on every node and forget it. Returns when it is forgotten."""

    async def pause(self, program: ProgramId, for_s: int, request_id: str) -> ProgramView:
        """No failover of this program for so long. Returns when that is agreed."""

    async def resume(self, program: ProgramId, request_id: str) -> ProgramView:
        """Failover of this program again. Returns when that is agreed."""

    async def failover(self, instance: InstanceId, force: bool, request_id: str) -> Switchover:
        """An unplanned takeover by this mirror, or by the best one of this primary. Returns when the new one serves."""

    async def drain(self, node: NodeId, over: bool, request_id: str) -> Drained:
        """No program comes to this node while another will do; `over`: it may again. Returns when that is agreed."""

    async def set_log_level(self, node: NodeId, level: LevelName, for_s: int) -> None:
        """Have a node, and its agents, log so much for so long. Returns when it does."""

    async def leads_no_more(self, node: NodeId) -> None:
        """Return when this node takes another one for the leader than that one, or none, or has not heard that one for
        a moment: who waits for its answer waits in vain."""

    def history(self, program: ProgramId, limit: int) -> tuple[Event, ...]:
        """The newest events that this node remembers, ascending; of a program, "" for all."""

    def primaries_here(self, program: ProgramId) -> tuple[InstanceId, ...]:
        """The primaries on this node that serve now; of a program, "" for all."""

    def mirrors_here(self, program: ProgramId, max_lag_ms: float | None) -> tuple[InstanceId, ...]:
        """The mirrors on this node that hold a checkpoint which is not older than that."""

    async def samples(self) -> tuple[Sample, ...]:
        """What this node knows now, for its metrics; asks no other node."""

    @property
    def tally(self) -> Tally:
        """What is counted on this node, for its metrics."""

    def health(self) -> Health:
        """What this node knows now; asks nobody."""

    def events(self, after: int | None) -> AsyncIterator[Event]:
        """What happens from now on; with `after`, what happened after that index first, as far as it is remembered."""
