"""What the leader learns, as the events of `failover.Failover`. Pure.

Nodes tell what their agents say. News of a token that is not the present one are ignored, so they may come late, twice
or not at all; what must not be lost (that an instance ended) is told again, to every new leader too, until the registry
shows that it was acted on.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.leader.selection import Held
from cluster.registry.commands import Command, Result
from cluster.registry.values import InstanceId, NodeId, ProgramId
from transport.checkpoint import Version
from transport.control import InstanceStatus, Role


@dataclass(frozen=True, slots=True)
class Leading:
    """This node leads in `term`, and may decide until `until_s` (CLOCK_BOOTTIME), which a quorum acknowledged.

    Told again whenever `until_s` moves. wall_s: CLOCK_REALTIME now; only for the count of takeovers. heard_s: when the
    last of those who elected it (itself among them) had heard an earlier leader, was one, or was started; None: not
    known.
    """

    term: int
    until_s: float
    wall_s: float
    heard_s: float | None = None


@dataclass(frozen=True, slots=True)
class NotLeading:
    """This node does not lead, or not any more."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`Failover.deadline_s` has come."""


@dataclass(frozen=True, slots=True)
class RegistryChanged:
    """A command for this program (all of them: "") was applied here that this leader did not order."""

    program: ProgramId


@dataclass(frozen=True, slots=True)
class Committed:
    """An ordered command was applied here, with this result. None: nobody knows whether it was or will be."""

    command: Command
    result: Result | None


@dataclass(frozen=True, slots=True)
class NodeHeard:
    """A heartbeat of a node."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class NodeClosed:
    """The connection to a node ended."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class LeaseAsked:
    """The node of a primary asks for its lease. sent_s: CLOCK_BOOTTIME there; it goes back with the grant as it is."""

    node: NodeId
    program: ProgramId
    token: int
    sent_s: float


@dataclass(frozen=True, slots=True)
class InstanceReported:
    """What an instance is now, at every change and when the node has connected to this leader.

    token: its own (primary), or that of the primary that it follows. fence_id: of the order (AskFence, SwitchOn) that
    keeps it still, "" when none does; a lease that ran out is no order.
    """

    program: ProgramId
    node: NodeId
    role: Role
    status: InstanceStatus
    incarnation: int
    token: int
    reason: str = ""
    stream: str = ""
    fence_id: str = ""


@dataclass(frozen=True, slots=True)
class MirrorReported:
    """What a mirror holds: with its heartbeats, and in answer to AskMirrors. asked: it is an answer."""

    program: ProgramId
    node: NodeId
    held: Held
    asked: bool = False


@dataclass(frozen=True, slots=True)
class InstanceEnded:
    """The primary's program ended; see `transport.control.Exited`. status: as waitpid(2) gives it. took_s: from its end
    until it was told. holders: the mirrors that are known to hold `final`."""

    program: ProgramId
    token: int
    node: NodeId
    status: int
    final: Version | None
    fenced: bool
    reason: str
    took_s: float = 0.0
    holders: tuple[InstanceId, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The primary's agent is gone. alive: its program runs on, and an agent is started that seizes it."""

    program: ProgramId
    token: int
    node: NodeId
    alive: bool


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """The health checks of the primary say so. reason: "" when it is well (again)."""

    program: ProgramId
    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class FenceConfirmed:
    """Answer to AskFence: it was read back that address and process are still."""

    program: ProgramId
    token: int
    node: NodeId
    fence_id: str


@dataclass(frozen=True, slots=True)
class ActivateDone:
    """Answer to ActivateOn and RestartOn: the program serves under this token."""

    program: ProgramId
    token: int
    node: NodeId
    timeline: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ActivateFailed:
    """Answer to ActivateOn and RestartOn: it does not serve. fenced: and nothing of it is left that could."""

    program: ProgramId
    token: int
    node: NodeId
    fenced: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ActivateWaits:
    """Answer to ActivateOn: it does not serve, as somebody else has its address; all that it holds is kept.

    reason: who that is, and what is to be done.
    """

    program: ProgramId
    token: int
    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class SwitchRequested:
    """A person asks for a planned switchover: a mirror becomes primary, a primary hands over to the best mirror."""

    request_id: str
    instance: InstanceId


@dataclass(frozen=True, slots=True)
class FailoverRequested:
    """A person asks for an unplanned takeover by a mirror, or by the best one where `instance` is the primary.

    force: though the primary serves; it is fenced, and what it did since the mirror's checkpoint is lost.
    """

    request_id: str
    instance: InstanceId
    force: bool


@dataclass(frozen=True, slots=True)
class SwitchHeld:
    """Answer to SwitchOn: the program stands still at `version`, its address is dropped. It is as good as a fence.

    holders: the mirrors that are known to hold `version`.
    """

    program: ProgramId
    token: int
    node: NodeId
    fence_id: str
    version: Version
    holders: tuple[InstanceId, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchFailed:
    """Answer to SwitchOn: not done, it serves on."""

    program: ProgramId
    token: int
    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A person asks to end the program everywhere. forget: and to delete it."""

    request_id: str
    program: ProgramId
    forget: bool


@dataclass(frozen=True, slots=True)
class StartRequested:
    """A person asks to start a program that is stopped, or that failed and was left so."""

    request_id: str
    program: ProgramId


ProgramNews = (
    InstanceReported
    | MirrorReported
    | InstanceEnded
    | AgentLost
    | HealthChanged
    | FenceConfirmed
    | ActivateDone
    | ActivateFailed
    | ActivateWaits
    | SwitchHeld
    | SwitchFailed
    | StopRequested
    | StartRequested
)
"""News of one program."""
News = (
    ProgramNews
    | Leading
    | NotLeading
    | Tick
    | RegistryChanged
    | Committed
    | NodeHeard
    | NodeClosed
    | LeaseAsked
    | SwitchRequested
    | FailoverRequested
)
