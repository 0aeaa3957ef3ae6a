"""What goes over the API, in both directions; its OpenAPI document is generated from these models. Values only.

Requests are strict: unknown fields and converted types are refused. Nothing in them can name a command to be run; what
runs is written in files that belong to root, on each node.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from transport.context_schema import Context
from transport.control import InstanceStatus, Role
from transport.log_level import LevelName

PATH_CHARS_MAX: Final = 4096
PROGRAM_PATTERN: Final = r"^[a-z0-9-]{1,63}$"
NODE_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
STRUCTURE_PATTERN: Final = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
INSTANCE_PATTERN: Final = r"^[a-z0-9-]{1,63}@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

CONFIG_FILE_PATTERN: Final = r"^/[^\x00-\x1f\x7f]*$"
SHAPES: Final = {
    PROGRAM_PATTERN: "no program id: 1 to 63 of a-z, 0-9 and -",
    NODE_PATTERN: "no node id: 1 to 63 of a-z, 0-9 and -, neither first nor last a -",
    INSTANCE_PATTERN: "no instance id: <program>@<node>",
    STRUCTURE_PATTERN: "no name of a structure: 1 to 63 of a-z, 0-9, _, . and -",
    CONFIG_FILE_PATTERN: "no absolute path",
}
"""What a person is told of text that does not match."""

ProgramName = Annotated[str, Field(pattern=PROGRAM_PATTERN, description="Id of a program.", examples=["redis"])]
NodeName = Annotated[str, Field(pattern=NODE_PATTERN, description="Id of a node.", examples=["a"])]
InstanceName = Annotated[str, Field(pattern=INSTANCE_PATTERN, description="<program>@<node>", examples=["redis@a"])]

Count = Annotated[int, Field(ge=0)]


class Request(BaseModel):
    """Strict: a mistake is refused, never guessed at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Answer(BaseModel):
    """Has always all of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


# ------------------------------------------------------------ requests


class Create(Request):
    """A program that is to be mirrored from now on."""

    program_id: ProgramName
    config_file: str = Field(
        pattern=CONFIG_FILE_PATTERN,
        max_length=PATH_CHARS_MAX,
        description="Path of its program.toml, the same on every node, where it belongs to root.",
        examples=["/etc/kagemusha/redis.toml"],
    )
    nodes: Annotated[tuple[NodeName, ...], Field(strict=False)] = Field(
        default=(),
        max_length=32,
        json_schema_extra={"uniqueItems": True},
        description="Nodes that get an instance; it starts on the first. None named: all nodes.",
    )

    @field_validator("nodes")
    @classmethod
    def _are_apart(cls, nodes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(nodes)) != len(nodes):
            raise ValueError("a node is named twice")
        return nodes


class Pause(Request):
    """Maintenance: no failover for so long."""

    for_s: int = Field(default=3600, ge=1, le=7 * 86400, description="After so long failover is on again by itself.")


class Failover(Request):
    """A takeover by hand."""

    force: bool = Field(
        default=False,
        description="Though the primary serves: it is fenced, and what it did since the mirror's checkpoint is lost.",
    )


class LogLevelWish(Request):
    """How much a node logs for a time."""

    level: LevelName = Field(description="Of the lines that are written; `error` is the least.")
    for_s: int = Field(default=600, ge=1, le=86400, description="After so long it is `info` again by itself.")


# ------------------------------------------------------------ answers


class Checkpoint(Answer):
    """Identifies a state of a program: two instances with the same one hold the same."""

    token: Count = Field(description="Fencing token under which it was taken.")
    number: Count
    digest: str = Field(description="Checksum of the chain of checkpoints up to it, in hexadecimal.")


class Pauses(Answer):
    """How long the program stood still for a checkpoint, over the last thousand of them."""

    p50_us: Count
    p99_us: Count
    max_us: Count


class Sync(Answer):
    """A first, full transfer under way."""

    done_bytes: Count
    total_bytes: Count = Field(description="What is expected; it may still grow.")
    bytes_per_s: Count


class MirrorProgress(Answer):
    """A primary's view of one of its mirrors."""

    instance: InstanceName
    state: Literal["waiting", "full", "following"]
    checkpoint: Checkpoint | None
    lag_checkpoints: Count
    lag_bytes: Count
    staleness_ms: float | None = Field(description="Age of the newest checkpoint that it holds; null: it holds none.")
    sync: Sync | None


class FailureView(Answer):
    """A primary that failed, and was replaced."""

    instance: InstanceName
    reason: str
    at: str = Field(description="When that was agreed, by the leader's clock, ISO 8601, UTC.")


class InstanceView(Answer):
    """One copy of a program on a node, as it is now."""

    instance: InstanceName
    program: ProgramName
    node: NodeName
    role: Role
    status: InstanceStatus
    reason: str = Field(
        description="Why it is failed, fenced or stopped, or what is in the way of its clients; else empty."
    )
    token: Count = Field(description="Fencing token of the primary that it is or follows; rises with each promotion.")
    guarantee: Literal["async", "sync"]
    checkpoint: Checkpoint | None = Field(description="Newest one taken (primary) or held (mirror).")
    lag_checkpoints: Count = Field(description="Of the least stale mirror (primary), its own (mirror).")
    lag_ms: float | None = Field(description="What a takeover now would lose at most; null: nothing is mirrored yet.")
    lag_bytes: Count
    lease_age_ms: float | None = Field(description="Since the primary's lease was last renewed; null for a mirror.")
    pauses: Pauses
    checkpoints: Count = Field(description="How many were taken or applied.")
    abandoned: Count
    refused: dict[str, int] = Field(description="Updates that were refused, by reason.")
    streamed_bytes: Count
    memory_bytes: Count
    sync: Sync | None
    mirrors: tuple[MirrorProgress, ...]
    connections: Count
    children: Count = Field(description="Processes of the program, which are not mirrored.")
    pid: Count = Field(description="Of the program or its shadow; 0: none.")
    paused: bool = Field(description="No failover of its program until it is resumed.")
    last_failure: FailureView | None = Field(description="Of its program, whichever instance it was; null: none yet.")


class InstanceSummary(Answer):
    """One instance as the registry knows it."""

    instance: InstanceName
    node: NodeName
    role: Role
    status: InstanceStatus
    reason: str
    in_sync: bool = Field(description="Whether `sync` waits for it.")


class Step(Answer):
    """A part of a takeover."""

    name: str
    took_us: Count


class PromotionView(Answer):
    """How the present primary came to be one."""

    token: Count
    instance: InstanceName
    checkpoint: Checkpoint | None = Field(description="The one that it continued from; null: it was started anew.")
    reason: str
    served_at: str | None = Field(
        description="When the leader heard that it serves, ISO 8601, UTC; null: not yet, or another node led then."
    )
    timeline: tuple[Step, ...] = Field(
        description="What the time until then went by with: the leader's parts (detect, fence, agree, activate, "
        "redirect), one after the other, then the steps of the new primary. Empty where `served_at` is null."
    )


class ProgramView(Answer):
    """A program as the registry knows it."""

    program: ProgramName
    config_file: str
    config_digest: str
    token: Count
    primary: NodeName | None = Field(description="Node of the primary; null before the first start.")
    paused: bool = Field(description="No failover until it is resumed.")
    paused_until: str | None = Field(description="When that happens by itself, ISO 8601, UTC; null: it is not paused.")
    guarantee: Literal["async", "sync"]
    shut_down: bool = Field(
        description="It was ended because the whole cluster was to be shut down: start it when the nodes are back."
    )
    takeovers: Count = Field(description="Unplanned ones of late.")
    fenced: bool = Field(description="Its primary is fenced: it has no effect any more.")
    last_promotion: PromotionView | None
    instances: tuple[InstanceSummary, ...]


class ProgramList(Answer):
    """All programs, ascending by id."""

    programs: tuple[ProgramView, ...]


class NodeView(Answer):
    """A node, as the one that answers sees it."""

    node: NodeName
    address: str = Field(description="HOST:PORT of its messages to other nodes.")
    admin: str = Field(description="HOST:PORT of its API.")
    alive: bool
    leader: bool
    heartbeat_age_ms: float | None = Field(description="Since it was last heard from; null: never.")
    cpu: float | None = Field(description="Share of its processors in use, 0 to 1.")
    free_bytes: int | None = Field(description="Memory that is free on it.")
    latency_ms: float | None = Field(description="Median of its round trips to the other nodes.")
    trouble: str = Field(description="What speaks against having a program served there; empty: nothing is known.")
    instances: tuple[InstanceName, ...]
    drained: bool = Field(description="No program comes to it while another node will do.")


class NodeList(Answer):
    """All nodes, ascending by id."""

    nodes: tuple[NodeView, ...]


class Switchover(Answer):
    """A planned takeover that is done: the new primary serves."""

    program: ProgramName
    old: InstanceName
    new: InstanceName
    token: Count
    checkpoint: Checkpoint
    timeline: tuple[Step, ...] = Field(description="In order.")


class Drained(Answer):
    """Whether programs may come to a node, and which ones it serves still."""

    node: NodeName
    drained: bool
    primaries: tuple[InstanceName, ...]


class LogLevelSet(Answer):
    """How much a node logs now, with its agents."""

    node: NodeName
    level: LevelName
    for_s: Count = Field(description="Then it is `info` again.")


class Here(Answer):
    """The instances of this node that can be used as was asked."""

    node: NodeName
    instances: tuple[InstanceName, ...]


class Health(Answer):
    """What this node knows of the group."""

    node: NodeName
    cluster: str
    leader: NodeName | None
    term: Count
    quorum: bool = Field(description="Whether a majority of the nodes agrees on a leader.")
    missing: tuple[NodeName, ...] = Field(description="Nodes that are not heard from.")


EventKind = Literal[
    "leader-changed",
    "program-created",
    "program-deleted",
    "program-started",
    "primary-fenced",
    "primary-unfenced",
    "primary-promoted",
    "instance-changed",
    "in-sync-changed",
    "paused",
    "resumed",
    "node-changed",
    "drained",
    "undrained",
    "shut-down",
]


class Event(Answer):
    """Something that was agreed. Every node tells the same events with the same indices."""

    index: Count = Field(description="Rises with every event, not always by one; the id of the server-sent event.")
    at: str = Field(description="When the node that tells it learnt of it, ISO 8601, UTC.")
    kind: EventKind
    program: str = Field(description="Empty where it concerns none.")
    instance: str
    node: str
    text: str = Field(description="One line for people.")


class EventList(Answer):
    """Events, ascending by index."""

    events: tuple[Event, ...]


class Problem(BaseModel):
    """What is wrong (RFC 9457). `type` is a word of its own for programs, `detail` one line for people."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(examples=["urn:kagemusha:unknown"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    hint: str = Field(default="", description="What to do about it.")
    errors: tuple[str, ...] = Field(default=(), description="Each mistake in the request.")


class Deleted(Answer):
    """The program was ended on every node and is forgotten."""

    program: ProgramName


class ContextView(Answer):
    """The schema of the mirrored context: what there is and where, no contents."""

    context: Context


class StructureView(Answer):
    """A named structure as one instance holds it."""

    name: str
    source: str = Field(description="As in the definition: `symbol g_sessions`. `program`: it names it itself.")
    size_bytes: Count
    version: Count = Field(description="Of its last update; 0 for one that is part of a checkpoint.")
    age_ms: float | None = Field(description="Age of what is held; null: nothing is.")
    trouble: str = Field(description="Why it can't be found, mirrored or shown; else empty.")
    content: Any = Field(description="What is in it; null: that was not asked for. Bytes are hexadecimal text.")


class StructuresView(Answer):
    """The named structures of an instance, in the order of the definition."""

    instance: InstanceName
    program: ProgramName
    role: Role
    structures: tuple[StructureView, ...]
