"""The replicated state machine: which programs there are, who is primary under which token, who is fenced. Pure.

Every node applies the same commands in the same order and comes to the same state: no clock, no randomness, no I/O. A
command that can't be applied is a result (`Rejected`), never an exception, and changes nothing.

Tokens: only `Promote` and `Started` give one, each exactly `expected_token + 1` and only if the present one is
expected; so they strictly rise and none is given twice, not even to a program that was deleted and created again: it
begins above all tokens of deleted ones. Both need the fence of the primary before them to stand, so whoever
releases a fence (`Unfence`) and whoever promotes past it can't both succeed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from cluster.registry.commands import (
    Command,
    CreateProgram,
    DeleteProgram,
    Drain,
    EndExtension,
    Extend,
    Fenced,
    LeaderCommand,
    Ok,
    Pause,
    Promote,
    Rejected,
    Result,
    Resume,
    SetInstance,
    SetInSync,
    SetNode,
    ShutDown,
    Started,
    TakeOffice,
    Unfence,
    decode_command,
    encode,
)
from cluster.registry.refusals import (
    TEXT_CHARS_MAX,
    Refusal,
    expect_fence,
    expect_token,
    instance_of,
    refuse,
    shared_with,
    short,
    with_instance,
    with_status,
)
from cluster.registry.results import Remembered, Results, content_of
from cluster.registry.values import (
    NODE_ID,
    PROGRAM_ID,
    Extension,
    Failure,
    Fence,
    InstanceEntry,
    MirrorMember,
    NodeEntry,
    NodeId,
    Placement,
    ProgramEntry,
    ProgramId,
    Promotion,
)
from transport.checkpoint import NOTHING, Version
from transport.codec import Form, MessageSet
from transport.control import InstanceStatus
from transport.errors import FrameError

SNAPSHOT_FORMAT: Final = 1
SNAPSHOT_BYTES_MAX: Final = 64 << 20
PROGRAMS_MAX: Final = 1000
NODES_MAX: Final = 32
PATH_CHARS_MAX: Final = 4096
TAKEOVERS_REMEMBERED: Final = 16
DIGEST_CHARS: Final = 64
EXTENSION_SECONDS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole registry as a value: programs and nodes ascending by id, results in the order of their commands."""

    format: int
    applied: int
    term: int
    leader: NodeId
    token_floor: int
    programs: tuple[ProgramEntry, ...]
    nodes: tuple[NodeEntry, ...]
    results: tuple[Remembered, ...]


_SNAPSHOT: Final[MessageSet[Snapshot]] = MessageSet({0: Form(Snapshot, SNAPSHOT_BYTES_MAX)})


class Registry:
    """The registry of one node. Entries are values: what was read stays as it was."""

    def __init__(self) -> None:
        self._programs: dict[ProgramId, ProgramEntry] = {}
        self._nodes: dict[NodeId, NodeEntry] = {}
        self._results = Results()
        self._applied = 0
        self._term = 0
        self._leader: NodeId = ""
        self._token_floor = 0

    @property
    def programs(self) -> Mapping[ProgramId, ProgramEntry]:
        return MappingProxyType(self._programs)

    @property
    def nodes(self) -> Mapping[NodeId, NodeEntry]:
        return MappingProxyType(self._nodes)

    @property
    def term(self) -> int:
        """Of the newest leader that took office, 0 before the first one."""
        return self._term

    @property
    def leader(self) -> NodeId:
        """Which node took office in `term`. It may not lead any more: ask the Raft member for that."""
        return self._leader

    @property
    def applied(self) -> int:
        """How many commands were applied, refused ones included."""
        return self._applied

    def apply_bytes(self, data: bytes) -> bytes:
        """Apply an encoded command and return its encoded result; what is no command is rejected as invalid."""
        try:
            command = decode_command(data)
        except FrameError as error:
            self._applied += 1
            return encode(Rejected("invalid", short(error.what)))
        return encode(self.apply(command))

    def apply(self, command: Command) -> Result:
        """Apply one command and return its result. The same command again: the same result, and nothing happens."""
        self._applied += 1
        if not 0 < len(command.request_id) <= TEXT_CHARS_MAX:
            return Rejected("invalid", f"a request id has 1 to {TEXT_CHARS_MAX} characters")
        try:
            content = content_of(command)
        except ValueError as error:
            return Rejected("invalid", short(str(error)))
        known = self._results.of(command.request_id, content)
        if known is not None:
            return known
        try:
            if isinstance(command, LeaderCommand):
                self._check_office(command)
            result: Result = self._perform(command)
        except Refusal as refusal:
            result = refusal.result
        self._results.remember(command.request_id, content, result)
        return result

    def was_deleted(self, program: ProgramId, request_id: str) -> bool:
        """Whether a program of that name was deleted for this request of a person."""
        return self._results.was_deleted(program, request_id)

    def snapshot(self) -> bytes:
        """Return all of it as bytes, equal on nodes that applied the same commands. Raises ValueError above 64 MiB."""
        value = Snapshot(
            SNAPSHOT_FORMAT,
            self._applied,
            self._term,
            self._leader,
            self._token_floor,
            tuple(self._programs[key] for key in sorted(self._programs)),
            tuple(self._nodes[key] for key in sorted(self._nodes)),
            self._results.all(),
        )
        return _SNAPSHOT.encode(value)[1]

    @classmethod
    def restore(cls, data: bytes) -> Registry:
        """Return the registry that `snapshot` made these bytes of. Raises FrameError when they are not of that kind."""
        registry = cls()
        registry.load(data)
        return registry

    def load(self, data: bytes) -> None:
        """Become what `snapshot` made these bytes of. Raises FrameError, with nothing changed."""
        value = _SNAPSHOT.decode(0, data)
        if value.format != SNAPSHOT_FORMAT:
            raise FrameError(f"a registry snapshot of format {value.format}, not {SNAPSHOT_FORMAT}")
        self._programs = {entry.program_id: entry for entry in value.programs}
        self._nodes = {entry.node: entry for entry in value.nodes}
        self._results = Results(value.results)
        self._applied, self._term, self._leader = value.applied, value.term, value.leader
        self._token_floor = value.token_floor

    def _check_office(self, command: LeaderCommand) -> None:
        if isinstance(command, TakeOffice):
            if command.term <= self._term:
                refuse("stale", f"term {self._term} has begun under {self._leader}, term {command.term} is over")
        elif command.term != self._term:
            refuse("stale", f"decided in term {command.term}, but term {self._term} has begun under {self._leader}")

    def _perform(self, command: Command) -> Ok:
        match command:
            case TakeOffice():
                self._term, self._leader = command.term, command.node
                return Ok(command.term)
            case CreateProgram():
                return self._create(command)
            case DeleteProgram():
                return self._delete(command)
            case SetInstance():
                return self._set_instance(command)
            case Fenced():
                return self._fenced(command)
            case Unfence():
                return self._unfence(command)
            case Promote():
                return self._promote(command)
            case Started():
                return self._started(command)
            case SetInSync():
                return self._set_in_sync(command)
            case Pause() | Resume():
                paused, until_s = isinstance(command, Pause), getattr(command, "until_s", 0)
                self._put(replace(self._program(command.program), paused=paused, paused_until_s=until_s))
                return Ok(command.program)
            case ShutDown():
                self._put(replace(self._program(command.program), shut_down=True))
                return Ok(command.program)
            case Drain():
                return self._drain(command)
            case SetNode():
                return self._set_node(command)
            case Extend():
                return self._extend(command)
            case EndExtension():
                return self._end_extension(command)

    def _program(self, program: ProgramId) -> ProgramEntry:
        entry = self._programs.get(program)
        if entry is None:
            refuse("unknown", f"there is no program {program!r}", "kagemusha list shows them")
        return entry

    def _put(self, entry: ProgramEntry) -> None:
        self._programs[entry.program_id] = entry

    def _create(self, command: CreateProgram) -> Ok:
        name = command.program_id
        if not PROGRAM_ID.fullmatch(name):
            refuse("invalid", f"{name!r} is no program id", "1 to 63 of a-z, 0-9 and -")
        if name in self._programs:
            refuse("exists", f"there is a program {name!r} already", f"delete it first, or ask for {name}@<node>")
        if not command.config_file.startswith("/") or len(command.config_file) > PATH_CHARS_MAX:
            refuse("invalid", f"the file of program {name} must be an absolute path")
        digest = command.config_digest
        if len(digest) != DIGEST_CHARS or set(digest) - set("0123456789abcdef"):
            refuse("invalid", f"the digest of the file of program {name} must be a SHA-256 in hexadecimal")
        if not command.nodes or len(set(command.nodes)) != len(command.nodes):
            refuse("invalid", f"program {name} needs one node at least, and each only once")
        for node in command.nodes:
            if node not in self._nodes:
                refuse("unknown", f"program {name} is to be on node {node!r}, which is unknown")
        shared = shared_with(self._programs.values(), command.policy)
        if shared is not None:
            refuse(shared.code, shared.reason, shared.hint)
        if len(self._programs) >= PROGRAMS_MAX:
            refuse("limit", f"there are {PROGRAMS_MAX} programs already")
        instances = [InstanceEntry(str(Placement(name, node)), node, "mirror", "starting") for node in command.nodes]
        self._put(
            ProgramEntry(
                name,
                command.config_file,
                digest,
                token=self._token_floor,
                instances=tuple(instances),
                policy=command.policy,
            )
        )
        return Ok(name)

    def _delete(self, command: DeleteProgram) -> Ok:
        entry = self._program(command.program)
        primary = entry.primary_instance
        if primary is not None and primary.status != "stopped" and entry.fence is None:
            refuse("unfit", f"{primary.instance} is {primary.status} and may still serve", "stop the program first")
        self._token_floor = max(self._token_floor, entry.token)
        del self._programs[entry.program_id]
        self._results.remember_deletion(entry.program_id, command.asked_by)
        return Ok(entry.program_id)

    def _set_instance(self, command: SetInstance) -> Ok:
        entry = self._program(command.program)
        old = instance_of(entry, command.instance)
        if command.incarnation < old.incarnation:
            refuse(
                "stale",
                f"{old.instance} is in incarnation {old.incarnation}; that was of {command.incarnation}",
            )
        if command.role != old.role:
            refuse("stale", f"{old.instance} is a {old.role}", "only a promotion or a start makes a primary")
        if len(command.reason) > TEXT_CHARS_MAX or len(command.stream) > TEXT_CHARS_MAX:
            refuse("invalid", f"a text about {old.instance} has more than {TEXT_CHARS_MAX} characters")
        new = replace(
            old,
            status=command.status,
            incarnation=command.incarnation,
            reason=command.reason,
            stream=command.stream or old.stream,
        )
        entry = with_instance(entry, new)
        if new.incarnation != old.incarnation or new.status == "failed":
            kept = tuple(member for member in entry.in_sync if member.instance != new.instance)
            entry = replace(entry, in_sync=kept)
        self._put(entry)
        return Ok(new.instance)

    def _fenced(self, command: Fenced) -> Ok:
        entry = self._program(command.program)
        expect_token(entry, command.token)
        if not entry.primary or entry.primary != command.node or not 0 < len(command.fence_id) <= TEXT_CHARS_MAX:
            refuse("stale", f"the primary of {entry.program_id} is on node {entry.primary!r}, not {command.node!r}")
        standing = entry.fence
        if standing is not None and standing.fence_id != command.fence_id:
            refuse("fence", f"{entry.program_id} is fenced already, by {standing.fence_id}")
        confirmed = command.confirmed or (standing is not None and standing.confirmed)
        if entry.extension is not None and not confirmed:
            refuse("fence", f"the lease of {entry.program_id} is extended: only a confirmed fence counts")
        one = entry.primary_instance
        before: InstanceStatus = "running" if one is None else one.status
        if standing is not None:
            before = standing.before
        fence = Fence(command.fence_id, command.token, command.node, confirmed, before)
        self._put(with_status(replace(entry, fence=fence), command.node, "fenced", ""))
        return Ok(command.fence_id)

    def _unfence(self, command: Unfence) -> Ok:
        entry = self._program(command.program)
        expect_token(entry, command.token)
        before = expect_fence(entry, command.fence_id).before
        self._put(with_status(replace(entry, fence=None), entry.primary, before, ""))
        return Ok(command.fence_id)

    def _promote(self, command: Promote) -> Ok:
        entry = self._program(command.program)
        expect_token(entry, command.expected_token)
        expect_fence(entry, command.fence_id)
        chosen = instance_of(entry, command.instance)
        if chosen.node == entry.primary:
            refuse("unfit", f"{chosen.instance} is the primary")
        if chosen.status == "failed":
            refuse("unfit", f"{chosen.instance} has failed: {chosen.reason}")
        if command.version == NOTHING or not 0 < command.version.token <= command.expected_token:
            refuse("unfit", f"{command.version} is no checkpoint of {entry.program_id} up to token {entry.token}")
        member = MirrorMember(chosen.instance, chosen.incarnation)
        if entry.policy.guarantee == "sync" and member not in entry.in_sync:
            refuse("unfit", f"{chosen.instance} is not in the in-sync set of {entry.program_id}")
        takeovers = entry.takeovers
        if command.at_s > 0:
            oldest_s = command.at_s - entry.policy.takeovers_window_s
            recent = (*(at_s for at_s in takeovers if at_s > oldest_s), command.at_s)
            takeovers = tuple(sorted(recent))[-TAKEOVERS_REMEMBERED:]
        entry = replace(entry, takeovers=takeovers, requests=entry.requests_with(command.asked_by))
        old_status: InstanceStatus = "failed" if command.at_s > 0 else "starting"
        return self._new_primary(entry, command, command.version, old_status)

    def _started(self, command: Started) -> Ok:
        entry = self._program(command.program)
        expect_token(entry, command.expected_token)
        if entry.primary or command.fence_id:
            expect_fence(entry, command.fence_id)
        instance_of(entry, command.instance)
        entry = replace(entry, takeovers=(), shut_down=False, requests=entry.requests_with(command.asked_by))
        return self._new_primary(entry, command, NOTHING, "failed")

    def _new_primary(
        self, entry: ProgramEntry, command: Promote | Started, version: Version, old_status: InstanceStatus
    ) -> Ok:
        reason = short(command.reason)
        token = command.expected_token + 1
        failure = entry.last_failure
        if command.at_s > 0 and entry.primary:
            failure = Failure(str(Placement(entry.program_id, entry.primary)), reason, command.at_s)
        instances: list[InstanceEntry] = []
        for one in entry.instances:
            if one.instance == command.instance:
                one = replace(one, role="primary", status="starting", reason="")
            elif one.node == entry.primary:
                one = replace(one, role="mirror", status=old_status, reason=reason)
            instances.append(one)
        self._put(
            replace(
                entry,
                token=token,
                primary=Placement.parse(command.instance).node,
                instances=tuple(instances),
                in_sync=(),
                last_promotion=Promotion(
                    token, command.instance, version, command.fence_id, reason, command.request_id
                ),
                fence=None,
                extension=None,
                last_failure=failure,
            )
        )
        return Ok(token)

    def _set_in_sync(self, command: SetInSync) -> Ok:
        entry = self._program(command.program)
        expect_token(entry, command.expected_token)
        if len({member.instance for member in command.members}) != len(command.members):
            refuse("invalid", f"an instance is in the in-sync set of {entry.program_id} twice")
        for member in command.members:
            one = instance_of(entry, member.instance)
            if one.role != "mirror" or one.status == "failed":
                refuse("unfit", f"{one.instance} is a {one.role} and {one.status}: no member of an in-sync set")
            if one.incarnation != member.incarnation:
                refuse("stale", f"{one.instance} is in incarnation {one.incarnation}, not {member.incarnation}")
        self._put(replace(entry, in_sync=tuple(sorted(command.members, key=lambda member: member.instance))))
        return Ok(entry.program_id)

    def _extend(self, command: Extend) -> Ok:
        entry = self._program(command.program)
        expect_token(entry, command.token)
        if entry.fence is not None:
            refuse("fence", f"{entry.program_id} is fenced, by {entry.fence.fence_id}")
        if not 0 < command.seconds <= EXTENSION_SECONDS_MAX:
            refuse("invalid", f"an extension takes 1 to {EXTENSION_SECONDS_MAX} seconds, not {command.seconds}")
        self._put(replace(entry, extension=Extension(command.request_id, command.seconds)))
        return Ok(command.request_id)

    def _end_extension(self, command: EndExtension) -> Ok:
        entry = self._program(command.program)
        expect_token(entry, command.token)
        if entry.extension is None or entry.extension.extension_id != command.extension_id:
            refuse("stale", f"the lease of {entry.program_id} is not extended by {command.extension_id!r}")
        self._put(replace(entry, extension=None))
        return Ok(command.extension_id)

    def _set_node(self, command: SetNode) -> Ok:
        if not NODE_ID.fullmatch(command.node):
            refuse("invalid", f"{command.node!r} is no node id", "1 to 63 of a-z, 0-9 and -")
        if max(len(command.address), len(command.admin)) > TEXT_CHARS_MAX:
            refuse("invalid", f"an endpoint of node {command.node} has more than {TEXT_CHARS_MAX} characters")
        if command.node not in self._nodes and len(self._nodes) >= NODES_MAX:
            refuse("limit", f"there are {NODES_MAX} nodes already")
        drained = command.node in self._nodes and self._nodes[command.node].drained
        self._nodes[command.node] = NodeEntry(command.node, command.address, command.admin, drained)
        return Ok(command.node)

    def _drain(self, command: Drain) -> Ok:
        known = self._nodes.get(command.node)
        if known is None:
            refuse("unknown", f"there is no node {command.node!r}", "kagemusha topology shows them")
        self._nodes[command.node] = replace(known, drained=not command.over)
        return Ok(command.node)
