"""What the leader wants done, as the effects of `failover.Failover`, to be performed in their order. Pure.

Orders to nodes may be lost and are given again until the news says that they were carried out: to carry one out twice
is to carry it out once. A node refuses an order whose token is lower than the one that it knows of.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.registry.commands import Command, Result
from cluster.registry.values import NodeId, ProgramId
from transport.checkpoint import Version


@dataclass(frozen=True, slots=True)
class Commit:
    """Propose this command; then tell `Committed`. Commands are proposed in the order of their orders, none waits."""

    command: Command


@dataclass(frozen=True, slots=True)
class GrantLease:
    """Answer to LeaseAsked: serve for `granted_s` from its sending on, which the node remembers.

    It thaws a program that is frozen because its lease ran out; never one that is kept still by an order.
    """

    node: NodeId
    program: ProgramId
    token: int
    sent_s: float
    granted_s: float


@dataclass(frozen=True, slots=True)
class RefuseLease:
    """Answer to LeaseAsked. replaced: the program has a higher token, what runs under this one serves never again."""

    node: NodeId
    program: ProgramId
    token: int
    reason: str
    replaced: bool


@dataclass(frozen=True, slots=True)
class AskFence:
    """Fence the primary under this token: drop, delete, freeze, read back. Then FenceConfirmed.

    It stays so, whatever lease is granted, until ResumeOn names this very fence. One that is still by an earlier order
    is now so by this one.
    """

    node: NodeId
    program: ProgramId
    token: int
    fence_id: str


@dataclass(frozen=True, slots=True)
class AskMirrors:
    """Ask these nodes what their mirrors hold. final: the last checkpoint; who gets it later says so when it has."""

    program: ProgramId
    nodes: tuple[NodeId, ...]
    final: Version | None


@dataclass(frozen=True, slots=True)
class GetReadyOn:
    """What ActivateOn will want of it, once it is agreed, is to be done as far as no client can see it. A mirror that
    finds that its primary serves on begins anew. Nobody waits for it."""

    node: NodeId
    program: ProgramId
    token: int
    version: Version


@dataclass(frozen=True, slots=True)
class ActivateOn:
    """Become the primary under `token`, from `version`, or from a later checkpoint of the same primary where one came
    after the mirror was asked. The node asks for a lease under that token first, and only with it lets the program
    serve. Then ActivateDone or ActivateFailed; or ActivateWaits, or nothing where it was not granted a lease in time:
    then it is to be given again.
    """

    node: NodeId
    program: ProgramId
    token: int
    version: Version


@dataclass(frozen=True, slots=True)
class RestartOn:
    """Start the program anew as the primary under `token`; whatever of it is on the node is ended before. Lease and
    answers as with ActivateOn."""

    node: NodeId
    program: ProgramId
    token: int


@dataclass(frozen=True, slots=True)
class SwitchOn:
    """Planned: stop the primary under `token`, drop its address, send the last checkpoint. Then SwitchHeld or
    SwitchFailed. It is kept still as by AskFence."""

    node: NodeId
    program: ProgramId
    token: int
    fence_id: str


@dataclass(frozen=True, slots=True)
class ResumeOn:
    """Undo the fence (AskFence, SwitchOn) of this id: the primary under `token` serves on while it has a lease.

    Where another fence keeps it still, nothing happens: this order was overtaken.
    """

    node: NodeId
    program: ProgramId
    token: int
    fence_id: str


@dataclass(frozen=True, slots=True)
class ReleaseOn:
    """Another instance serves: let go of what is held of the one under `token`."""

    node: NodeId
    program: ProgramId
    token: int


@dataclass(frozen=True, slots=True)
class RebuildOn:
    """Be a mirror of `primary` under `token`: a mirror follows it, anything else is released and begun anew."""

    node: NodeId
    program: ProgramId
    primary: NodeId
    token: int


@dataclass(frozen=True, slots=True)
class TerminateOn:
    """End what there is of the program on this node, as a person asked for; then InstanceEnded or InstanceReported."""

    node: NodeId
    program: ProgramId
    token: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a person's request."""

    request_id: str
    result: Result


@dataclass(frozen=True, slots=True)
class Note:
    """For the history and the log. parts: of a time line, in order, in microseconds."""

    program: ProgramId
    what: str
    token: int
    parts: tuple[tuple[str, int], ...] = ()


Order = (
    Commit
    | GrantLease
    | RefuseLease
    | AskFence
    | AskMirrors
    | GetReadyOn
    | ActivateOn
    | RestartOn
    | SwitchOn
    | ResumeOn
    | ReleaseOn
    | RebuildOn
    | TerminateOn
    | Answer
    | Note
)
