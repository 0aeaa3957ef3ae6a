"""The messages between an agent and whoever controls it (the node's daemon, the demo), over a Unix socket. Pure.

Requests have an id and get exactly one reply; events come from the agent at any time. Every request that changes what
an instance does is answered when it is done, not when it is begun, and may be repeated: twice is once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from transport.checkpoint import Version
from transport.codec import Form, MessageSet
from transport.context_schema import CONTEXT_BYTES_MAX, Context
from transport.structure_view import STRUCTURES_BYTES_MAX, GetStructures, Structures

Role = Literal["primary", "mirror"]
InstanceStatus = Literal["starting", "running", "syncing", "mirrored", "failed", "fenced", "stopped"]
"""A primary is running or mirrored (a mirror is up to date); a mirror syncing or mirrored."""
REDIRECTION: Final = ("address", "announcement")
"""Of the steps of a takeover those that lead clients to the new primary."""


# ---------------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the program and be its primary under this fencing token. Ok when it runs."""

    token: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """Be the primary of the program that runs as process `pid` without an agent, under its token of before.

    start_ticks: when that process started, in clock ticks since boot (proc_pid_stat(5)). Its address is left as it is;
    Resume claims it. Every mirror gets a full transfer. Ok when it is watched.
    """

    pid: int
    start_ticks: int
    token: int


@dataclass(frozen=True, slots=True)
class Follow:
    """Be a mirror of the primary whose agent listens at host:port on the node `node`. Ok when it is accepted there.

    token: of that primary; anything lower is refused from now on. May be sent again to follow another primary.
    """

    host: str
    port: int
    node: str
    token: int


@dataclass(frozen=True, slots=True)
class GetReady:
    """Do all of Activate that clients can't see, while it is not certain yet that it may be done. Ok when it is.

    Refused as Activate is. Then comes Activate, at whatever token that is due by then; or Follow, which begins anew.
    """

    token: int
    version: Version | None


@dataclass(frozen=True, slots=True)
class Activate:
    """Become the primary under this token, from `version` or a later one of the same primary: what was on its way may
    still arrive. None: from whatever is held. Ok when it serves.

    Refused when no such version is held complete and verified, or the token is not higher than every one seen. The time
    line comes as the event Activated.
    """

    token: int
    version: Version | None


@dataclass(frozen=True, slots=True)
class Switch:
    """Planned: stop the program, drop its address, send the last checkpoint, and hold. The reply is Held.

    Then either Activate on a mirror that holds that version and Release here, or Resume here.
    """


@dataclass(frozen=True, slots=True)
class Fence:
    """Let this instance have no effect any more: address dropped, program frozen. Ok only when both were read back."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Undo Switch or Fence: serve on under the same token. Refused when it is not the token of this instance."""

    token: int


@dataclass(frozen=True, slots=True)
class Release:
    """Another instance serves now: let go of what is held (the program, its sockets, silently). Ok when it is gone."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """End the program: SIGTERM, and SIGKILL after `grace_ms`. Ok when it is gone; this is no failure."""

    grace_ms: int


@dataclass(frozen=True, slots=True)
class SetLeash:
    """When nobody has been connected for so long, hold the program as by Switch: its lease ends, and what it does until
    then would be lost. Resume lets it serve on. 0: never. Holds until the next one; Ok."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class GetStatus:
    """The reply is Status."""


@dataclass(frozen=True, slots=True)
class GetContext:
    """What is mirrored, made visible without its contents. The reply is `transport.context_schema.Context`.

    Refused before the first checkpoint.
    """


@dataclass(frozen=True, slots=True)
class Quit:
    """End the agent, in order. A program that runs runs on; a shadow ends. Ok, then the connection is closed."""


Request = (
    Launch
    | Adopt
    | Follow
    | GetReady
    | Activate
    | Switch
    | Fence
    | Resume
    | Release
    | Terminate
    | SetLeash
    | GetStatus
    | GetContext
    | GetStructures
    | Quit
)


# ----------------------------------------------------------------------------------------------------------- replies


@dataclass(frozen=True, slots=True)
class Ok:
    """Done."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not done, and nothing changed unless `what` says so. See `errors.KagemushaError`."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Held:
    """Reply to Switch: the program stands still at `version`, which went out to the mirrors as the last checkpoint.

    holders: the instances that are known to hold it.
    """

    version: Version
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long the program stood still for a checkpoint, in microseconds, over the last thousand."""

    p50_us: int
    p99_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A full transfer under way. total: what is expected, may still grow."""

    bytes: int
    total_bytes: int
    bytes_per_s: int


@dataclass(frozen=True, slots=True)
class MirrorView:
    """A primary's view of one of its mirrors. staleness_ms: age of the newest checkpoint that it acknowledged."""

    instance: str
    incarnation: int
    state: Literal["waiting", "full", "following"]
    version: Version
    lag_checkpoints: int
    lag_bytes: int
    staleness_ms: float
    sync: Sync | None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that is to be known of an instance now.

    version: the newest checkpoint taken (primary) or held (mirror). lag_*, staleness_ms: of the least stale mirror on a
    primary, its own on a mirror. pid: of the program, 0 when there is none. refused: updates and frames by reason.
    children: processes of the program that are not mirrored.
    """

    program: str
    instance: str
    incarnation: int
    role: Role
    status: InstanceStatus
    reason: str
    token: int
    version: Version
    lag_checkpoints: int
    lag_ms: float
    lag_bytes: int
    staleness_ms: float
    pauses: Pauses
    checkpoints: int
    abandoned: int
    refused: dict[str, int]
    bytes: int
    memory_bytes: int
    sync: Sync | None
    mirrors: tuple[MirrorView, ...]
    connections: int
    children: int
    pid: int


Reply = Ok | Refused | Held | Status | Context | Structures


# ------------------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of the agent on every connection. stream_port: where its mirrors may subscribe."""

    program: str
    instance: str
    incarnation: int
    pid: int
    stream_port: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The program ended. status: as waitpid(2) gives it.

    final: the version of the checkpoint that was taken of it while it died, if that could be done. fenced: its address
    was dropped before this was sent; the death is its own fence. last_gasp: its connections are held silently.
    took_us: from its end to this event; meanwhile the last checkpoint was taken, and a mirror got it. holders: the
    instances that are known to hold it.
    """

    status: int
    final: Version | None
    fenced: bool
    last_gasp: bool
    reason: str
    took_us: int = 0
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mirrored:
    """`instance` holds `version`, complete and verified (told by a mirror of itself, and by a primary of the first that
    each of its mirrors holds).

    captured_ns: CLOCK_REALTIME of the stop in which it was taken, on the node where that was; 0: not known here.
    """

    instance: str
    incarnation: int
    version: Version
    captured_ns: int = 0


@dataclass(frozen=True, slots=True)
class Activated:
    """A mirror became the primary. timeline: steps of the takeover with their durations in microseconds, in order;
    those of REDIRECTION lead clients here."""

    token: int
    version: Version
    timeline: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """After a takeover: so many connections go on, so many could not be continued and were reset."""

    kept: int
    reset: int


@dataclass(frozen=True, slots=True)
class Failed:
    """This instance can't be used any more until it is started again; as a mirror it is not to be chosen."""

    what: str
    hint: str


Event = Hello | Exited | Mirrored | Activated | Settled | Failed

ControlMessage = Request | Reply | Event

MESSAGE_BYTES_MAX: Final = 256 << 10
_LARGE: Final[dict[type, int]] = {Context: CONTEXT_BYTES_MAX, Structures: STRUCTURES_BYTES_MAX}

CONTROL: Final[MessageSet[ControlMessage]] = MessageSet(
    {
        kind: Form(message, _LARGE.get(message, MESSAGE_BYTES_MAX))
        for kind, message in {
            1: Launch,
            2: Follow,
            3: Activate,
            4: Switch,
            5: Fence,
            6: Resume,
            7: Release,
            8: Terminate,
            9: GetStatus,
            10: Quit,
            11: GetContext,
            12: Adopt,
            13: SetLeash,
            14: GetReady,
            15: GetStructures,
            64: Ok,
            65: Refused,
            66: Held,
            67: Status,
            68: Context,
            69: Structures,
            128: Hello,
            129: Exited,
            130: Mirrored,
            131: Activated,
            132: Settled,
            133: Failed,
        }.items()
    }
)
"""Kinds below 64 are requests, below 128 replies, the others events."""
