"""What the daemons of two nodes say to each other over a link. Pure.

A heartbeat carries the whole state of its node, regularly and at once when something has changed: whoever becomes
leader knows everything one heartbeat later, and nothing that happens is told only once. Orders are given by the leader,
numbered by the sender, and get exactly one answer; each carries the leader's term, and a node refuses what comes from
an earlier one than it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cluster.node.questions import (
    Look,
    LookAtStructures,
    LookInside,
    Seen,
    SeenInside,
    SeenStructures,
    SetLogLevel,
)
from cluster.registry.values import InstanceId, NodeId, Policy, ProgramId
from transport.checkpoint import Version
from transport.codec import Form, MessageSet
from transport.context_schema import CONTEXT_BYTES_MAX
from transport.control import InstanceStatus, Role
from transport.structure_view import STRUCTURES_BYTES_MAX

# ------------------------------------------------------------------------------------------------------- conversation


@dataclass(frozen=True, slots=True)
class Greet:
    """The first message on a link, of whoever opened it. membership: `NodeConfig.membership`.

    incarnation: of the daemon, rises with every start of it.
    """

    membership: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to Greet: messages may follow."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Unwelcome:
    """The answer to Greet before the link is closed: what must be put right."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a node is. cpu: share of all CPUs in use, 0 to 1, over the last second. free: memory in bytes.

    latency_ms: the median of its round trips to the other nodes. trouble: what speaks against having a program served
    there, in a few words, "" for nothing.
    """

    cpu: float
    free_bytes: int
    latency_ms: float = 0.0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Echo:
    """The newest heartbeat of `node` was sent at `sent_ns` of its own clock, and came here `held_ns` ago."""

    node: NodeId
    sent_ns: int
    held_ns: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The program of a primary ended; see `transport.control.Exited`. token: under which it served.

    fenced: address and process are known to be gone. agent_lost: its agent was gone too, and nobody saw how it ended.
    took_us: from its end until the agent told it. holders: the instances that are known to hold `final`.
    """

    token: int
    status: int
    final: Version | None
    fenced: bool
    last_gasp: bool
    agent_lost: bool
    reason: str
    took_us: int = 0
    holders: tuple[InstanceId, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What a node knows of one of its instances.

    token: of the primary that it is or follows. captured_ns: CLOCK_REALTIME of the stop in which `version` was taken,
    on the node where that was; 0: unknown. staleness_ms: as in `transport.control.Status`, when this was sent. stream:
    where its agent offers checkpoints, `host:port`, "" without an agent. fence_id: of the order that keeps it still, ""
    when none does. lease_out: its lease ended, and the watchdog stopped it. agent_lost: its agent is gone while the
    program runs on; another one is on its way. unhealthy: why the health checks of a primary say that it has failed, ""
    while they do not; of a mirror, what would be in the way of its clients here.
    """

    program: ProgramId
    incarnation: int
    role: Role
    status: InstanceStatus
    reason: str
    token: int
    version: Version
    captured_ns: int
    staleness_ms: float
    stream: str
    fence_id: str
    lease_out: bool
    agent_lost: bool
    ended: Ended | None
    unhealthy: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The state of the sender. sent_ns: its own CLOCK_BOOTTIME; nobody else's clock is compared with it. echoes: see
    `cluster.node.round_trips`."""

    number: int
    sent_ns: int
    load: Load
    instances: tuple[InstanceState, ...]
    echoes: tuple[Echo, ...] = ()


@dataclass(frozen=True, slots=True)
class RenewLease:
    """To the leader: may the primary of `program` under `token`, on this node, serve on?

    sent_s: CLOCK_BOOTTIME here, now. It comes back as it is.
    """

    program: ProgramId
    token: int
    sent_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """Yes, for `granted_s` from `sent_s` on."""

    program: ProgramId
    token: int
    sent_s: float
    granted_s: float


@dataclass(frozen=True, slots=True)
class LeaseRefused:
    """No. replaced: another instance serves under a higher token; what runs under this one never does again."""

    program: ProgramId
    token: int
    reason: str
    replaced: bool


@dataclass(frozen=True, slots=True)
class Order:
    """Carry out what `body` says, a message of ORDERS of this kind, and give the answer within `timeout_ms`."""

    number: int
    term: int
    timeout_ms: int
    kind: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """To the order of this number; `body` is a message of ANSWERS."""

    number: int
    kind: int
    body: bytes


NodeMessage = Greet | Welcome | Unwelcome | Heartbeat | RenewLease | Grant | LeaseRefused | Order | Answer


# ------------------------------------------------------------------------------------------------------------- orders


@dataclass(frozen=True, slots=True)
class StopServing:
    """Fence: drop the address, freeze the program, and read back both. Done only then. See `orders.AskFence`."""

    program: ProgramId
    token: int
    fence_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start the program anew, as the primary under this token; whatever instance is here is ended before. The answer is
    Serves."""

    program: ProgramId
    config_file: str
    token: int


@dataclass(frozen=True, slots=True)
class MirrorFrom:
    """Be a mirror of the primary on `node`, whose agent offers its checkpoints at `stream`: a mirror follows it, any
    other instance here is ended before. Done when the primary's agent has accepted it."""

    program: ProgramId
    config_file: str
    node: NodeId
    stream: str
    token: int


@dataclass(frozen=True, slots=True)
class GetReadyHere:
    """See `orders.GetReadyOn`. Done."""

    program: ProgramId
    token: int
    version: Version


@dataclass(frozen=True, slots=True)
class ActivateHere:
    """Become the primary under this token, from exactly this version. The answer is Serves, DoesNotServe or Waits; or
    Done where it was not granted a lease in time: it keeps what it holds, and will serve when it is told again."""

    program: ProgramId
    token: int
    version: Version


@dataclass(frozen=True, slots=True)
class Hold:
    """Planned: stop the program at a last checkpoint that a mirror holds. The answer is HeldAt. See
    `orders.SwitchOn`."""

    program: ProgramId
    token: int
    fence_id: str


@dataclass(frozen=True, slots=True)
class ServeOn:
    """Undo the Hold or StopServing of this id. See `orders.ResumeOn`."""

    program: ProgramId
    token: int
    fence_id: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """Another instance serves under a higher token than this: end what is left of the program here, without a word to
    its clients."""

    program: ProgramId
    token: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the program in order, SIGTERM first; its mirror, if there is no primary here."""

    program: ProgramId
    token: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The program is deleted: end what there is of it here, its agent and its record too."""

    program: ProgramId


@dataclass(frozen=True, slots=True)
class Report:
    """What is the state of this instance at this moment? The answer is Reported; heartbeats are old news."""

    program: ProgramId


@dataclass(frozen=True, slots=True)
class ReadProgram:
    """Read the program's file on this node. The answer is ProgramRead."""

    config_file: str


@dataclass(frozen=True, slots=True)
class CheckProgram:
    """Can the program of that file be mirrored from and to this node? The answer is ProgramChecked."""

    config_file: str


Question = Report | Look | LookInside | LookAtStructures | ReadProgram | CheckProgram | SetLogLevel
"""What changes nothing of any program: any node may ask, in whatever term."""

OrderBody = (
    StopServing
    | Start
    | MirrorFrom
    | GetReadyHere
    | ActivateHere
    | Hold
    | ServeOn
    | LetGo
    | Stop
    | Forget
    | Report
    | Look
    | LookInside
    | LookAtStructures
    | ReadProgram
    | CheckProgram
    | SetLogLevel
)


# ------------------------------------------------------------------------------------------------------------ answers


@dataclass(frozen=True, slots=True)
class Done:
    """Carried out."""


@dataclass(frozen=True, slots=True)
class NotDone:
    """Not carried out; see `transport.errors.KagemushaError`."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Serves:
    """The program serves here. timeline: steps of the takeover with their durations in microseconds, in order."""

    timeline: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class DoesNotServe:
    """Answer to Start and ActivateHere. fenced: nothing of it is left that could serve."""

    what: str
    hint: str
    fenced: bool


@dataclass(frozen=True, slots=True)
class Waits:
    """Answer to ActivateHere: the address of the program is somebody else's, so it does not serve; it keeps what it
    holds, and will serve when it is told again and the address is free."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class HeldAt:
    """The program stands still at this version, which a mirror holds. holders: of which that is known."""

    version: Version
    holders: tuple[InstanceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Reported:
    """The state of the instance, None where there is none."""

    state: InstanceState | None
    load: Load


@dataclass(frozen=True, slots=True)
class ProgramRead:
    """What the program's file says on this node. digest: of its meaning, equal where the files mean the same."""

    program: ProgramId
    digest: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class ProgramChecked:
    """What stands in the way, each as what and remedy. facts: see `cluster.node.program.Findings`."""

    reasons: tuple[tuple[str, str], ...]
    facts: str = ""


AnswerBody = (
    Done
    | NotDone
    | Serves
    | DoesNotServe
    | Waits
    | HeldAt
    | Reported
    | Seen
    | SeenInside
    | SeenStructures
    | ProgramRead
    | ProgramChecked
)


# --------------------------------------------------------------------------------------------------------------- forms

NODE: Final[MessageSet[NodeMessage]] = MessageSet(
    {
        1: Form(Greet, 1 << 10),
        2: Form(Welcome, 1 << 10),
        3: Form(Unwelcome, 4 << 10),
        4: Form(Heartbeat, 256 << 10),
        5: Form(RenewLease, 1 << 10),
        6: Form(Grant, 1 << 10),
        7: Form(Order, 32 << 10),
        8: Form(Answer, max(CONTEXT_BYTES_MAX, STRUCTURES_BYTES_MAX) + (2 << 10)),
        9: Form(LeaseRefused, 4 << 10),
    }
)

ORDERS: Final[MessageSet[OrderBody]] = MessageSet(
    {
        1: Form(StopServing, 1 << 10),
        2: Form(Start, 8 << 10),
        3: Form(MirrorFrom, 8 << 10),
        4: Form(ActivateHere, 1 << 10),
        5: Form(Hold, 1 << 10),
        6: Form(ServeOn, 1 << 10),
        7: Form(LetGo, 1 << 10),
        8: Form(Stop, 1 << 10),
        9: Form(Report, 1 << 10),
        10: Form(Look, 1 << 10),
        11: Form(ReadProgram, 8 << 10),
        12: Form(Forget, 1 << 10),
        13: Form(LookInside, 1 << 10),
        14: Form(CheckProgram, 8 << 10),
        15: Form(LookAtStructures, 1 << 10),
        17: Form(SetLogLevel, 1 << 10),
        16: Form(GetReadyHere, 1 << 10),
    }
)

ANSWERS: Final[MessageSet[AnswerBody]] = MessageSet(
    {
        1: Form(Done, 1 << 10),
        2: Form(NotDone, 16 << 10),
        3: Form(HeldAt, 1 << 10),
        4: Form(Reported, 16 << 10),
        5: Form(Seen, 200 << 10),
        6: Form(ProgramRead, 16 << 10),
        7: Form(Serves, 16 << 10),
        8: Form(DoesNotServe, 16 << 10),
        9: Form(SeenInside, CONTEXT_BYTES_MAX + (1 << 10)),
        10: Form(ProgramChecked, 128 << 10),
        11: Form(Waits, 16 << 10),
        12: Form(SeenStructures, STRUCTURES_BYTES_MAX + (1 << 10)),
    }
)
"""Numbers never change their meaning."""
