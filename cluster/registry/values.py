"""The values that the nodes agree on: programs, instances, nodes, fences and promotions. Pure.

They are what the registry holds and what its snapshots are made of, so every field can travel (`transport.codec`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from transport.checkpoint import Version
from transport.control import InstanceStatus, Role

NodeId = str
"""As in the node's certificate: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`."""
ProgramId = str
"""`[a-z0-9-]{1,63}`."""
InstanceId = str
"""`<program>@<node>`; see `Placement`."""

PROGRAM_ID: Final = re.compile(r"[a-z0-9-]{1,63}")
NODE_ID: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

Guarantee = Literal["async", "sync"]
Restart = Literal["always", "never"]
"""What to do when the program failed and there is no mirror to continue: start it anew somewhere, or leave it."""
OnNoMirror = Literal["degrade", "hold"]
REQUESTS_REMEMBERED: Final = 16


@dataclass(frozen=True, slots=True)
class Placement:
    """One copy of a program on a node; its text is the instance's id. Raises ValueError for what is none."""

    program: ProgramId
    node: NodeId

    def __post_init__(self) -> None:
        if not PROGRAM_ID.fullmatch(self.program):
            raise ValueError(f"{self.program!r} is no program id: 1 to 63 of a-z, 0-9 and -")
        if not NODE_ID.fullmatch(self.node):
            raise ValueError(f"{self.node!r} is no node id: 1 to 63 of a-z, 0-9 and -, neither first nor last a -")

    @classmethod
    def parse(cls, instance: InstanceId) -> Placement:
        """Return the placement that `<program>@<node>` names. Raises ValueError when it is no such thing."""
        program, sign, node = instance.partition("@")
        if not sign:
            raise ValueError(f"{instance!r} is no instance id: <program>@<node>")
        return cls(program, node)

    def __str__(self) -> str:
        return f"{self.program}@{self.node}"


@dataclass(frozen=True, slots=True)
class MirrorMember:
    """A member of the in-sync set. incarnation: of its agent; one that was started again has lost its memory."""

    instance: InstanceId
    incarnation: int


@dataclass(frozen=True, slots=True)
class InstanceEntry:
    """One instance as the registry knows it.

    incarnation: of its agent, 0 before the first one. stream: `host:port` at which its agent's checkpoints can be
    subscribed to, "" while that is not known. reason: why it is failed, fenced or stopped, in one line, or "".
    """

    instance: InstanceId
    node: NodeId
    role: Role
    status: InstanceStatus
    incarnation: int = 0
    reason: str = ""
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Fence:
    """The primary under `token` on `node` has no effect any more, and stays so until this fence is released.

    confirmed: its agent or watchdog read back that address and process are still. Otherwise its lease has run out.
    before: the status that the primary had, and has again when the fence is released.
    """

    fence_id: str
    token: int
    node: NodeId
    confirmed: bool
    before: InstanceStatus = "running"


@dataclass(frozen=True, slots=True)
class Extension:
    """The primary's node restarts its daemon: for so long nobody takes its silence for an end of the lease.

    extension_id: the request id of the command that made it.
    """

    extension_id: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Promotion:
    """How the present primary came to be one.

    version: the checkpoint that it continued from; NOTHING: it was started anew. fence_id: the fence of the primary
    before, "" when there was none to fence.
    """

    token: int
    instance: InstanceId
    version: Version
    fence_id: str
    reason: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A primary that failed, and was replaced. at_s: CLOCK_REALTIME of the leader."""

    instance: InstanceId
    reason: str
    at_s: int


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants for a program; from its file.

    takeovers_max within takeovers_window_s: more than that, and the program is started clean instead of continued.
    exclusive: what no other program may have, in words ("the address 10.0.0.100").
    """

    guarantee: Guarantee = "async"
    restart: Restart = "always"
    on_no_mirror: OnNoMirror = "degrade"
    takeovers_max: int = 3
    takeovers_window_s: int = 300
    exclusive: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramEntry:
    """All that is agreed of one program.

    config_file: the same path on every node; config_digest: SHA-256 of its content, hexadecimal. token: of the present
    primary; where there was none yet, below that of the first. primary: its node, "" before the first start. instances:
    in the order of their creation, the first is where it starts if nothing speaks against it. in_sync: what `sync`
    waits for. paused: no failover until it is resumed (maintenance), which happens by itself when it is paused_until_s
    of CLOCK_REALTIME on the leader (0: never). fence: of the primary under `token`. takeovers: when the last unplanned
    ones were, as seconds of CLOCK_REALTIME on the leader, ascending. extension: of the lease. requests: of people, that
    a new primary was agreed on for, the newest last. shut_down: it was ended because the whole cluster was to
    be, and is to be started when that is back. last_failure: the newest that ended in a takeover or a clean start.
    """

    program_id: ProgramId
    config_file: str
    config_digest: str
    token: int = 0
    primary: NodeId = ""
    instances: tuple[InstanceEntry, ...] = ()
    in_sync: tuple[MirrorMember, ...] = ()
    paused: bool = False
    last_promotion: Promotion | None = None
    fence: Fence | None = None
    takeovers: tuple[int, ...] = ()
    policy: Policy = field(default_factory=Policy)
    extension: Extension | None = None
    paused_until_s: int = 0
    requests: tuple[str, ...] = ()
    shut_down: bool = False
    last_failure: Failure | None = None

    def instance_on(self, node: NodeId) -> InstanceEntry | None:
        """The instance on this node, None when there is none."""
        return next((entry for entry in self.instances if entry.node == node), None)

    def requests_with(self, request_id: str) -> tuple[str, ...]:
        """The requests, with one more unless it is "": as many as are remembered."""
        return (*self.requests, request_id)[-REQUESTS_REMEMBERED:] if request_id else self.requests

    @property
    def primary_instance(self) -> InstanceEntry | None:
        return self.instance_on(self.primary)


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node as the registry knows it: where it can be reached, each as `host:port`.

    address: of its node-to-node messages; admin: of its API. drained: no program comes here while another node will do.
    """

    node: NodeId
    address: str
    admin: str
    drained: bool = False
