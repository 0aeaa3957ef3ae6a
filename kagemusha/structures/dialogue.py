"""The program's side of the dialogue with its agent, as decisions: messages in, effects out. No clock, no sockets.

Effects are carried out in their order by client.py; what applying an update led to comes back through `applied`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

from kagemusha.structures.errors import ProtocolError, Refused, StructuresError
from kagemusha.structures.frames import FORMAT, Assembler, Message, field
from kagemusha.structures.structure import Structure, Update

PATIENCE = 10
"""After so many `current` messages a whole copy that has not come is asked for again."""
PRIMARY, MIRROR = "primary", "mirror"


@dataclass(frozen=True)
class Send:
    """Send a message."""

    message: Message


@dataclass(frozen=True)
class SendWhole:
    """Send what changed of a structure, and then a whole copy."""

    structure: str


@dataclass(frozen=True)
class Begin:
    """Send a structure whole, if this primary does not go on from what it holds of it; see `begins`."""

    structure: str


@dataclass(frozen=True)
class Apply:
    """Apply an update. `age_us`: how old it is."""

    update: Update
    age_us: int


@dataclass(frozen=True)
class Become:
    """Take another role, run the program's functions for it, and answer with `reply` ("": nobody asked)."""

    role: str
    token: int
    reply: str


@dataclass(frozen=True)
class Acknowledged:
    """So many mirrors have applied a version."""

    structure: str
    version: int
    mirrors: int


@dataclass(frozen=True)
class Current:
    """Nothing is newer than these versions were so long ago."""

    versions: dict[str, Any]
    age_us: int


@dataclass(frozen=True)
class LookUp:
    """Mirror the object of a Python path."""

    structure: str
    path: str
    limit_bytes: int | None


@dataclass(frozen=True)
class Say:
    """Tell a person."""

    what: str
    hint: str


@dataclass(frozen=True)
class Pace:
    """Take changes at this interval."""

    interval_ms: int


Effect = Union[Send, SendWhole, Begin, Apply, Become, Acknowledged, Current, LookUp, Say, Pace]


class Dialogue:
    """One program. `role` and `token` outlive connections; `is_welcome`: the agent has answered on this one.

    `heading`: the role when all effects so far have been carried out. `is_sure`: somebody has said which role it is.
    `agent_goes_on`: the agent takes up a primary's structures where they are, and asks for the copies that it needs.
    """

    def __init__(self, program: str, role: str) -> None:
        self.program = program
        self.role = self.heading = role
        self.is_sure = False
        self.token = 0
        self.is_welcome = False
        self.agent_goes_on = False
        self.structures: dict[str, Structure] = {}
        self._assembler = Assembler()
        self._waiting_for_whole: dict[str, int] = {}
        self._said: set[tuple[str, str]] = set()
        self._in_hello: set[str] = set()

    def opened(self, pid: int, runtime: str) -> Message:
        """A connection is there: return the first message."""
        self.is_welcome = False
        self._assembler = Assembler()
        self._waiting_for_whole = {}
        self._in_hello = set(self.structures)
        return {
            "kind": "hello",
            "format": FORMAT,
            "program": self.program,
            "pid": pid,
            "role": self.role,
            "runtime": runtime,
            "structures": [declaration(structure) for structure in self.structures.values()],
        }

    def declared(self, structure: Structure) -> list[Effect]:
        """A structure was added."""
        self.structures[structure.name] = structure
        if not self.is_welcome:
            return []
        effects: list[Effect] = [Send({"kind": "declare", **declaration(structure)})]
        if self.role == PRIMARY:
            effects.append(SendWhole(structure.name))
        return effects

    def withdrawn(self, name: str, error: StructuresError) -> list[Effect]:
        """A structure can't be mirrored any more."""
        self.structures.pop(name, None)
        effects: list[Effect] = [Say(error.what, error.hint)]
        if self.is_welcome:
            effects.append(Send(report(error, name)))
            effects.append(Send({"kind": "withdraw", "structure": name, "reason": error.what}))
        return effects

    def received(self, message: Message) -> list[Effect]:
        """Return what a message leads to; raises ProtocolError when the connection must end."""
        kind = message["kind"]
        if kind in ("update", "whole"):
            return self._begun(message)
        if kind == "more":
            incoming = self._assembler.more(message)
            return [] if incoming is None else self._if_complete(incoming)
        decide = {
            "welcome": self._welcomed,
            "resync": self._resync,
            "promote": self._promoted,
            "demote": self._demoted,
            "acknowledged": self._acknowledged,
            "current": self._current,
            "error": self._error,
        }.get(kind)
        return [] if decide is None else decide(message)

    def _welcomed(self, message: Message) -> list[Effect]:
        role, token = field(message, "role", str), field(message, "token", int)
        if field(message, "format", int) != FORMAT or role not in (PRIMARY, MIRROR):
            raise ProtocolError(f"an agent with format {message['format']} and role {role}")
        self.is_welcome = True
        self.agent_goes_on = message.get("goes_on") is True
        self.heading = role
        effects: list[Effect] = [Pace(max(1, field(message, "interval_ms", int)))]
        if role != self.role or token > self.token:
            effects.append(Become(role, token, ""))
        # Those that were added while `hello` was under way.
        late = [structure for name, structure in self.structures.items() if name not in self._in_hello]
        effects += [Send({"kind": "declare", **declaration(structure)}) for structure in late]
        for named in field(message, "structures", list):
            if named["name"] not in self.structures:
                effects.append(LookUp(named["name"], named["python"], named.get("limit")))
        if role == PRIMARY:
            effects += map(Begin, self.structures)
        return effects

    def begins(self, name: str) -> list[Effect]:
        """This is the primary: send a structure whole, unless the agent was told what it goes on from."""
        structure = self.structures.get(name)
        if structure is None or self.role != PRIMARY or (self.agent_goes_on and structure.holds is not None):
            return []
        return [SendWhole(name)]

    def goes_on(self) -> list[Effect]:
        """This has become the primary: say which structures go on from what it holds, as it was until now."""
        held = [it for it in self.structures.values() if it.holds is not None]
        if self.role != PRIMARY or not self.is_welcome or not self.agent_goes_on:
            return []
        return [Send({"kind": "declare", **declaration(structure)}) for structure in held]

    def _resync(self, message: Message) -> list[Effect]:
        name = field(message, "structure", str)
        return [SendWhole(name)] if self.heading == PRIMARY and name in self.structures else []

    def _promoted(self, message: Message) -> list[Effect]:
        token = field(message, "token", int)
        if token < self.token:
            return [Send(report(Refused("stale-token", f"promoted with token {token}, after {self.token}"), None))]
        self.heading = PRIMARY
        return [Become(PRIMARY, token, "promoted"), *map(Begin, self.structures)]

    def _demoted(self, message: Message) -> list[Effect]:
        self.heading = MIRROR
        return [Become(MIRROR, field(message, "token", int), "demoted")]

    def became(self, role: str, token: int) -> dict[str, Any]:
        """Take the role; return what is held by name. The caller keeps the program's changes away."""
        holds = {name: list(it.holds) for name, it in self.structures.items() if it.holds is not None}
        changed = role != self.role
        self.is_sure = True
        self.token = max(token, self.token)
        for structure in self.structures.values():
            if role == PRIMARY and changed:
                structure.lead(self.token)
            elif changed:
                structure.follow(self.token)
            elif role == PRIMARY:
                structure.token = self.token
        self.role = role  # last: whoever asks for it may change the structures at once
        return holds

    def _acknowledged(self, message: Message) -> list[Effect]:
        name, version = field(message, "structure", str), field(message, "version", int)
        return [Acknowledged(name, version, field(message, "mirrors", int))]

    def _current(self, message: Message) -> list[Effect]:
        return [Current(field(message, "versions", dict), field(message, "age_us", int))]

    def _error(self, message: Message) -> list[Effect]:
        return [Say(f"the agent: {field(message, 'what', str)}", str(message.get("hint") or ""))]

    def _begun(self, message: Message) -> list[Effect]:
        name = field(message, "structure", str)
        structure = self.structures.get(name)
        if self.heading != MIRROR:
            self._assembler.skip()
            return []
        try:
            incoming = self._assembler.begin(message, None if structure is None else structure.limit_bytes)
        except Refused as refused:
            self._assembler.skip()
            return self._refused(name, refused)
        if name in self._waiting_for_whole and message["kind"] == "update" and not self._is_next(message):
            self._assembler.skip()
            return []
        return self._if_complete(incoming)

    def _is_next(self, message: Message) -> bool:
        """Whether an update follows what is held: another primary than the one that was asked may go on from it."""
        return self.structures[message["structure"]].holds == (message["base_version"], message["base"])

    def _if_complete(self, incoming: Any) -> list[Effect]:
        update = incoming.complete
        if update is None:
            return []
        self._assembler.skip()
        return [Apply(update, incoming.age_us)]

    def up_to_date(self, versions: dict[str, Any]) -> list[str]:
        """Return the structures of which nothing is missing, given what the primary has."""
        holds = {name: structure.version for name, structure in self.structures.items() if structure.state is not None}
        return [name for name, version in versions.items() if self.role == MIRROR and holds.get(name) == version]

    def behind(self, versions: dict[str, Any]) -> list[Effect]:
        """Everything that came was applied, and the primary has more: it was lost on the way, or its whole copy was."""
        effects: list[Effect] = []
        for name, structure in self.structures.items() if self.role == MIRROR else ():
            version = versions.get(name, 0)
            waited = self._waiting_for_whole.get(name)
            if waited is not None and waited < PATIENCE:
                self._waiting_for_whole[name] = waited + 1
            elif version and (structure.state is None or version > structure.version):
                effects += self._refused(name, Refused("gap", f"structure {name}: version {version} did not come"))
        return effects

    def applied(self, update: Update, refused: Refused | None) -> list[Effect]:
        """An update was applied, or refused: return what the agent is told."""
        if refused is not None:
            return self._refused(update.structure, refused)
        self._waiting_for_whole.pop(update.structure, None)
        structure = self.structures[update.structure]
        message = {"kind": "applied", "structure": structure.name, "version": structure.version}
        return [Send({**message, "state": structure.state})]

    def _refused(self, name: str, refused: Refused) -> list[Effect]:
        effects: list[Effect] = []
        lasting = refused.code in ("unknown-structure", "too-large", "stale-token")
        if refused.code != "gap" and (refused.code, name) not in self._said:
            if lasting:
                self._said.add((refused.code, name))
            effects += [Say(refused.what, refused.hint), Send(report(refused, name))]
        structure = self.structures.get(name)
        if structure is None or lasting:
            return effects
        self._waiting_for_whole[name] = 0
        message = {"kind": "resync", "structure": name, "version": structure.version, "state": structure.state}
        return [*effects, Send({**message, "reason": refused.what})]


def declaration(structure: Structure) -> Message:
    """Return a structure as the agent is told of it."""
    return {
        "structure": structure.name,
        "type": structure.type_hash,
        "type_text": structure.layout[:1000],
        "limit": structure.limit_bytes,
        "holds": None if structure.holds is None else list(structure.holds),
        "consistency": structure.consistency,
    }


def report(error: StructuresError, name: str | None) -> Message:
    """Return an error as a message."""
    return {
        "kind": "error",
        "code": error.code,
        "what": error.what[:4000],
        "hint": error.hint[:1000],
        "structure": name,
    }
