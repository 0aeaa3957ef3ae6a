"""What members of a Raft group say to each other, typed, and its translation from and to pysyncobj's messages. Pure.

pysyncobj's messages are maps that it would pickle. Here each is a frozen dataclass that `transport.codec` checks field
by field; what pysyncobj could send beyond them (pieces of long entries, changes of membership) is not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from transport.codec import Form, MessageSet

WIRE_FORMAT: Final = 1
COMMAND_BYTES_MAX: Final = 32 << 10
SNAPSHOT_PIECE_BYTES: Final = 256 << 10
APPEND_BYTES_MAX: Final = 1 << 20
"""A batch of 64 KiB of commands and one command beyond it, with what the encoding adds to tens of thousands of them."""
_SMALL_BYTES: Final = 4096

REGULAR: Final = 0
NO_OP: Final = 1
"""The first byte of an entry of the log: a command for the state machine, or nothing (a new leader's first entry)."""

Entry = tuple[bytes, int, int]
"""An entry of the log as pysyncobj has it: command with its first byte, index, term."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First on every link, from both sides. instance: drawn at every start of a member. members: all, sorted. layout:
    a digest of where they are, as the node's own settings say; "" where they do not."""

    format: int
    cluster: str
    epoch: int
    node: str
    instance: str
    members: tuple[str, ...]
    layout: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Instead of a Hello: why the other side is not let in. The link ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing to say, but still there."""


@dataclass(frozen=True, slots=True)
class RequestVote:
    """A candidate asks; last_index, last_term: of its log."""

    term: int
    last_index: int
    last_term: int

    def __post_init__(self) -> None:
        _natural(self.term, self.last_index, self.last_term)


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote for the candidate. heard_ago_s: how long ago the voter heard from an earlier leader, or started."""

    term: int
    heard_ago_s: float

    def __post_init__(self) -> None:
        _natural(self.term)
        if not self.heard_ago_s >= 0:
            raise ValueError("heard_ago_s is below 0")


@dataclass(frozen=True, slots=True)
class AppendEntries:
    """The leader's heartbeat, with (term, command) of the entries that follow prev_index. round: see `lease`."""

    term: int
    round: int
    commit: int
    prev_index: int
    prev_term: int
    entries: tuple[tuple[int, bytes], ...]

    def __post_init__(self) -> None:
        _natural(self.term, self.round, self.commit, self.prev_index, self.prev_term)
        last = self.prev_term
        for term, command in self.entries:
            if not last <= term <= self.term:
                raise ValueError(f"an entry of term {term} between {last} and {self.term}")
            if command[:1] not in (b"\x00", b"\x01") or len(command) > COMMAND_BYTES_MAX + 1:
                raise ValueError("an entry is no command within its limit")
            last = term


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """A piece of the leader's snapshot, in order, for a follower that needs entries which the leader has no longer."""

    term: int
    round: int
    data: bytes
    first: bool
    last: bool

    def __post_init__(self) -> None:
        _natural(self.term, self.round)


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to AppendEntries and InstallSnapshot, in the term of who answers.

    next_index: the entry that is wanted next; 0: nothing is said about it. success: all before it is held and durable.
    reset: begin again from it. A higher term than the leader's ends its leadership.
    """

    term: int
    round: int
    next_index: int
    success: bool
    reset: bool

    def __post_init__(self) -> None:
        _natural(self.term, self.round, self.next_index)


@dataclass(frozen=True, slots=True)
class Propose:
    """A follower forwards a command to the leader. request: its own number for it."""

    request: int
    command: bytes

    def __post_init__(self) -> None:
        _natural(self.request)
        if len(self.command) > COMMAND_BYTES_MAX:
            raise ValueError(f"a command of {len(self.command)} bytes; at most {COMMAND_BYTES_MAX}")


@dataclass(frozen=True, slots=True)
class Proposed:
    """The command has this place in the leader's log; it is agreed when an entry of this index and term is applied."""

    request: int
    index: int
    term: int

    def __post_init__(self) -> None:
        _natural(self.request, self.index, self.term)


@dataclass(frozen=True, slots=True)
class NotProposed:
    """The command was not taken. error: pysyncobj's FAIL_REASON."""

    request: int
    error: int

    def __post_init__(self) -> None:
        _natural(self.request, self.error)


RaftMessage = RequestVote | Vote | AppendEntries | InstallSnapshot | Appended | Propose | Proposed | NotProposed
PeerMessage = Hello | Refused | Alive | RaftMessage

WIRE: Final[MessageSet[PeerMessage]] = MessageSet(
    {
        1: Form(Hello, 64 << 10),
        2: Form(Refused, _SMALL_BYTES),
        3: Form(Alive, _SMALL_BYTES),
        4: Form(RequestVote, _SMALL_BYTES),
        5: Form(Vote, _SMALL_BYTES),
        6: Form(AppendEntries, APPEND_BYTES_MAX),
        7: Form(InstallSnapshot, SNAPSHOT_PIECE_BYTES + _SMALL_BYTES),
        8: Form(Appended, _SMALL_BYTES),
        9: Form(Propose, COMMAND_BYTES_MAX + _SMALL_BYTES),
        10: Form(Proposed, _SMALL_BYTES),
        11: Form(NotProposed, _SMALL_BYTES),
    }
)


def _natural(*numbers: int) -> None:
    for number in numbers:
        if not 0 <= number < 1 << 63:
            raise ValueError(f"{number} is out of range")


def from_pysyncobj(message: Mapping[str, Any], number: int, heard_ago_s: float) -> RaftMessage:
    """Return the typed form of what pysyncobj wants to send; `number` is its round, if it is one of a leader.

    Raises ValueError for a message that has no typed form.
    """
    match message:
        case {"type": "request_vote", "term": term, "last_log_index": index, "last_log_term": last_term}:
            return RequestVote(term, index, last_term)
        case {"type": "response_vote", "term": term}:
            return Vote(term, heard_ago_s)
        case {"type": "append_entries", "term": term, "serialized": piece}:
            data, first, last = piece or (b"", False, False)
            return InstallSnapshot(term, number, data, first, last)
        case {"type": "append_entries", "entries": entries, "prevLogIdx": int(prev_index)}:
            following = tuple((entry[2], entry[0]) for entry in entries)
            term, commit = message["term"], message["commit_index"]
            return AppendEntries(term, number, commit, prev_index, message["prevLogTerm"], following)
        case {"type": "apply_command", "command": command, "request_id": request} if command[:1] == b"\x00":
            return Propose(request, command[1:])
        case {"type": "apply_command_response", "request_id": request, "error": error}:
            return NotProposed(request, error)
        case {"type": "apply_command_response", "request_id": request, "log_idx": index, "log_term": term}:
            return Proposed(request, index, term)
    raise ValueError(f"a message of type {message.get('type')!r} has no typed form")


def to_pysyncobj(message: RequestVote | Vote | Propose | Proposed | NotProposed) -> dict[str, Any]:
    """Return pysyncobj's form of what is left to pysyncobj to answer."""
    match message:
        case RequestVote(term, index, last_term):
            return {"type": "request_vote", "term": term, "last_log_index": index, "last_log_term": last_term}
        case Vote(term):
            return {"type": "response_vote", "term": term}
        case Propose(request, command):
            return {"type": "apply_command", "request_id": request, "command": bytes([REGULAR]) + command}
        case Proposed(request, index, term):
            return {"type": "apply_command_response", "request_id": request, "log_idx": index, "log_term": term}
        case NotProposed(request, error):
            return {"type": "apply_command_response", "request_id": request, "error": error}
