"""The commands that change the registry, their results, and both as bytes. Pure.

A command travels as msgpack `[format, opcode, body]`; opcodes are strings that never change their meaning, so that
nodes of different releases either understand a command alike or refuse it. Every command has a `request_id`: applied
twice, it has the effect and the result of once. Commands that follow from the leader's judgement carry its `term`, and
are refused once a later leader has taken office: nothing that a deposed leader had on its way can arrive after the
decisions of its successor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgpack

from cluster.registry.values import InstanceId, MirrorMember, NodeId, Policy, ProgramId
from transport.checkpoint import Version
from transport.codec import Form, MessageSet
from transport.control import InstanceStatus, Role
from transport.errors import FrameError

FORMAT: Final = 1
COMMAND_BYTES_MAX: Final = (32 << 10) - 256
"""Of a whole command: the Raft library breaks just below multiples of 64 KiB, and 32 KiB stay well away from that."""


@dataclass(frozen=True, slots=True)
class TakeOffice:
    """A leader's first command. What earlier leaders still have under way is refused from here on. Ok(term)."""

    request_id: str
    node: NodeId
    term: int


@dataclass(frozen=True, slots=True)
class CreateProgram:
    """A new program, with one instance on each of `nodes`; the first is where it starts if nothing speaks against it.

    Rejected when there is one of that name, or a node is unknown. Ok(program_id).
    """

    request_id: str
    program_id: ProgramId
    config_file: str
    config_digest: str
    nodes: tuple[NodeId, ...]
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class DeleteProgram:
    """Forget a program. Rejected unless its primary is stopped or fenced, or there was never one. Ok(program).

    asked_by: the request of the person who wants it, "" for none.
    """

    request_id: str
    program: ProgramId
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class SetInstance:
    """What is known of an instance has changed. `stream`: "" leaves it as it is.

    Rejected from an older incarnation than is known, and when `role` is not what the registry says: only Promote and
    Started make a primary. Ok(instance).
    """

    request_id: str
    program: ProgramId
    instance: InstanceId
    role: Role
    status: InstanceStatus
    incarnation: int
    reason: str
    term: int
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Fenced:
    """The primary under `token` has no effect any more; see `values.Fence`. Again with the same id: may confirm it.

    Rejected when the token or the node is not that of the primary, another fence stands, or it is not confirmed and the
    lease is extended. Ok(fence_id).
    """

    request_id: str
    program: ProgramId
    token: int
    node: NodeId
    fence_id: str
    confirmed: bool
    term: int


@dataclass(frozen=True, slots=True)
class Unfence:
    """Release that fence: the primary under `token` may serve on. A promotion that names it fails from here on. Ok."""

    request_id: str
    program: ProgramId
    token: int
    fence_id: str
    term: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Make `instance` the primary, from `version`, under the token `expected_token + 1`, if all of this still holds:
    the token is the expected one, the fence stands, the mirror is not failed, and under `sync` it is in the in-sync
    set. at_s: CLOCK_REALTIME of the leader for the count of takeovers; 0 for a planned one, which does not count.
    asked_by: the request of the person who wants it, "" for none. because: why it is this mirror and no other, for the
    history. Ok(new token).
    """

    request_id: str
    program: ProgramId
    expected_token: int
    instance: InstanceId
    version: Version
    fence_id: str
    reason: str
    term: int
    at_s: int = 0
    asked_by: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """`instance` is to start the program anew, without a context, under the token `expected_token + 1`.

    fence_id: of the primary before; "" only when there was none. at_s: CLOCK_REALTIME of the leader if that one failed;
    0: a person starts it. asked_by: as in Promote. The count of takeovers begins anew. Ok(new token).
    """

    request_id: str
    program: ProgramId
    expected_token: int
    instance: InstanceId
    fence_id: str
    reason: str
    term: int
    at_s: int = 0
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class SetInSync:
    """The in-sync set of the primary under `expected_token` becomes `members`: known incarnations, not failed. Ok."""

    request_id: str
    program: ProgramId
    expected_token: int
    members: tuple[MirrorMember, ...]
    term: int


@dataclass(frozen=True, slots=True)
class Pause:
    """No failover of this program until it is resumed. until_s: CLOCK_REALTIME of the leader after which it resumes
    it by itself; 0: never. Ok(program)."""

    request_id: str
    program: ProgramId
    until_s: int = 0


@dataclass(frozen=True, slots=True)
class Resume:
    """Failover of this program again. Ok(program)."""

    request_id: str
    program: ProgramId


@dataclass(frozen=True, slots=True)
class ShutDown:
    """The program is ended because the whole cluster is to be: it is remembered that it is to be started again, until
    it is. Ok(program)."""

    request_id: str
    program: ProgramId


@dataclass(frozen=True, slots=True)
class SetNode:
    """Where a node can be reached, each `host:port`: its node-to-node messages and its API. Ok(node)."""

    request_id: str
    node: NodeId
    address: str
    admin: str


@dataclass(frozen=True, slots=True)
class Drain:
    """No program is to come to this node while another one will do; with `over`, it may again. Ok(node)."""

    request_id: str
    node: NodeId
    over: bool = False


@dataclass(frozen=True, slots=True)
class Extend:
    """The daemon of the primary's node is about to restart: its lease holds for `seconds` from the sending of this.

    Until EndExtension a promotion needs a confirmed fence. Rejected when the primary is fenced. Ok(request_id).
    """

    request_id: str
    program: ProgramId
    token: int
    seconds: int


@dataclass(frozen=True, slots=True)
class EndExtension:
    """That extension is over: the daemon is back, or a leader has waited it out. Ok(extension_id)."""

    request_id: str
    program: ProgramId
    token: int
    extension_id: str


LeaderCommand = TakeOffice | SetInstance | Fenced | Unfence | Promote | Started | SetInSync
"""These carry the leader's term."""
Command = (
    LeaderCommand | CreateProgram | DeleteProgram | Pause | Resume | SetNode | Drain | ShutDown | Extend | EndExtension
)

RejectCode = Literal["invalid", "unknown", "exists", "stale", "fence", "conflict", "unfit", "limit", "busy"]
"""invalid: can't be a command. unknown: no such program, instance or node. exists: there is one already. stale: token,
incarnation or term is not the present one. fence: the fence named does not stand, or another does. conflict: the
request id was used for something else. unfit: that instance can't take this role. limit: too many. busy:
something else is under way for that program."""


@dataclass(frozen=True, slots=True)
class Ok:
    """Applied. value: what the command's description says."""

    value: int | str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was changed."""

    code: RejectCode
    reason: str
    hint: str = ""


Result = Ok | Rejected

OPCODES: Final[Mapping[str, type]] = {
    "take-office": TakeOffice,
    "create-program": CreateProgram,
    "delete-program": DeleteProgram,
    "set-instance": SetInstance,
    "fenced": Fenced,
    "unfence": Unfence,
    "promote": Promote,
    "started": Started,
    "set-in-sync": SetInSync,
    "pause": Pause,
    "resume": Resume,
    "set-node": SetNode,
    "ok": Ok,
    "rejected": Rejected,
    "extend": Extend,
    "end-extension": EndExtension,
    "drain": Drain,
    "shut-down": ShutDown,
}
"""Never change or reuse one: they stand in journals."""

_NAMES: Final = tuple(OPCODES)
_WORDS: Final[MessageSet[Command | Result]] = MessageSet(
    {number: Form(OPCODES[opcode], COMMAND_BYTES_MAX - 64) for number, opcode in enumerate(_NAMES)}
)
"""The numbers are of this process alone; what travels is the opcode."""


def encode(message: Command | Result) -> bytes:
    """Return a command or a result as bytes. Raises ValueError when it is too long."""
    number, body = _WORDS.encode(message)
    return bytes(msgpack.packb([FORMAT, _NAMES[number], body], use_bin_type=True))


def decode_command(data: bytes) -> Command:
    """Return the command. Raises FrameError, naming what is wrong, when it is not exactly one."""
    message = _decode(data)
    if isinstance(message, Ok | Rejected):
        raise FrameError(f"a command expected, not the result {type(message).__name__}")
    return message


def decode_result(data: bytes) -> Result:
    """Return the result. Raises FrameError, naming what is wrong, when it is not exactly one."""
    message = _decode(data)
    if not isinstance(message, Ok | Rejected):
        raise FrameError(f"a result expected, not the command {type(message).__name__}")
    return message


def _decode(data: bytes) -> Command | Result:
    if len(data) > COMMAND_BYTES_MAX:
        raise FrameError(f"a command of {len(data)} bytes; at most {COMMAND_BYTES_MAX}")
    try:
        envelope = msgpack.unpackb(data, raw=False, max_array_len=3, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise FrameError(f"a command that is not msgpack: {error}") from None
    match envelope:
        case [int(number), str(opcode), bytes(body)] if number == FORMAT and opcode in OPCODES:
            return _WORDS.decode(_NAMES.index(opcode), body)
    raise FrameError(f"a command that is not [{FORMAT}, opcode, body] with an opcode that is known here")
