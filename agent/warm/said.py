"""What a program says on its socket (docs/structures-protocol.md), frame by frame, checked and typed. Sans-I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from agent.structures.update import NO_STATE, Applied, Update
from agent.warm.assembly import Aged, Assembly, pieces_of
from transport.errors import FrameError
from transport.structure_messages import PIECE_BYTES, STRUCTURES_MAX, Held

FRAME_BYTES_MAX: Final = PIECE_BYTES + (64 << 10)
FORMAT: Final = 1
LINE_CHARS_MAX: Final = 1000
_SIZE: Final = struct.Struct("<I")
_MIB: Final = 1 << 20

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """The program has a structure; `holds`: version and state that it has it at, None for nothing."""

    structure: str
    type: bytes
    type_text: str
    limit_bytes: int
    holds: Held | None


@dataclass(frozen=True, slots=True)
class Hello:
    """The program is there."""

    pid: int
    role: str
    runtime: str
    structures: tuple[Declared, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The program can't mirror a structure any more."""

    structure: str
    reason: str


@dataclass(frozen=True, slots=True)
class Current:
    """Nothing is newer than these versions were so long ago."""

    versions: dict[str, int]
    age_us: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """The mirror's program needs a whole copy of a structure. held: what it has, None where that is worth nothing."""

    structure: str
    held: Held | None
    reason: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """The program is the primary now. holds: the structures of which it had all."""

    token: int
    holds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Demoted:
    """The program is a mirror now; all that it changed before was sent."""

    token: int


@dataclass(frozen=True, slots=True)
class Complained:
    """Something of the program for people. structure: "" for none in particular."""

    structure: str
    code: str
    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The connection to the program has ended."""


Said = Hello | Declared | Withdrawn | Aged | Current | Applied | Wanted | Promoted | Demoted | Complained | Gone


def frame(message: Message) -> bytes:
    """A message as bytes."""
    body: bytes = msgpack.packb(message, use_bin_type=True)
    return _SIZE.pack(len(body)) + body


def update_frames(update: Update, age_us: int) -> Iterator[bytes]:
    """An update for the program of a mirror, in pieces."""
    first, *others = pieces_of(update.data)
    head: Message = {
        "kind": "whole" if update.is_whole else "update",
        "structure": update.structure,
        "token": update.token,
        "version": update.version,
        "state": update.state,
        "sum": update.sum,
        "size": len(update.data),
        "age_us": age_us,
        "data": first,
    }
    if not update.is_whole:
        head |= {"base_version": update.base_version, "base": update.base}
    yield frame(head)
    for piece in others:
        yield frame({"kind": "more", "data": piece})


class Listener:
    """Understands one connection of a program. limits: of the structures that were declared on it, in bytes."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self._buffer = bytearray()
        self._assembly = Assembly()

    def feed(self, data: bytes) -> list[Said]:
        """What these bytes complete. Raises FrameError for what is none; nothing after it can be understood."""
        self._buffer += data
        found: list[Said] = []
        start = 0
        while len(self._buffer) - start >= _SIZE.size:
            (size,) = _SIZE.unpack_from(self._buffer, start)
            if not 0 < size <= FRAME_BYTES_MAX:
                raise FrameError(f"a frame of {size} bytes; 1 to {FRAME_BYTES_MAX} are allowed")
            end = start + _SIZE.size + size
            if len(self._buffer) < end:
                break
            said = self._understood(_unpacked(bytes(self._buffer[start + _SIZE.size : end])))
            if said is not None:
                found.append(said)
            start = end
        del self._buffer[:start]
        return found

    def _understood(self, message: Message) -> Said | None:
        match message["kind"]:
            case "hello":
                return self._hello(message)
            case "declare":
                return self._declared(message)
            case "withdraw":
                return Withdrawn(_get(message, "structure", str), _line(message, "reason"))
            case "update" | "whole":
                return self._update(message)
            case "more":
                return self._assembly.more(_get(message, "data", bytes))
            case "current":
                return Current(_versions(_get(message, "versions", dict)), _get(message, "age_us", int))
            case "applied":
                state = _state(message, "state")
                return Applied(_get(message, "structure", str), _get(message, "version", int), state)
            case "resync":
                version, is_sound = _get(message, "version", int), message.get("state") is not None
                held = (version, _state(message, "state")) if is_sound and version else None
                return Wanted(_get(message, "structure", str), held, _line(message, "reason"))
            case "promoted":
                return Promoted(_get(message, "token", int), frozenset(map(str, _get(message, "holds", dict))))
            case "demoted":
                return Demoted(_get(message, "token", int))
            case "error":
                where = str(message.get("structure") or "")
                return Complained(where, _line(message, "code"), _line(message, "what"), str(message.get("hint") or ""))
        return None

    def _hello(self, message: Message) -> Hello:
        if _get(message, "format", int) != FORMAT:
            raise FrameError(f"the program speaks format {message['format']}, not {FORMAT}")
        declared = _get(message, "structures", list)
        if len(declared) > STRUCTURES_MAX or not all(isinstance(one, dict) for one in declared):
            raise FrameError(f"hello: more than {STRUCTURES_MAX} structures, or no list of them")
        structures = tuple(self._declared({"kind": "hello", **one}) for one in declared)
        return Hello(_get(message, "pid", int), _line(message, "role"), _line(message, "runtime"), structures)

    def _declared(self, message: Message) -> Declared:
        name, limit = _get(message, "structure", str), _get(message, "limit", int)
        if len(self.limits) >= STRUCTURES_MAX and name not in self.limits:
            raise FrameError(f"more than {STRUCTURES_MAX} structures")
        self.limits[name] = limit
        holds = message.get("holds")
        if holds is not None and not (
            isinstance(holds, list) and len(holds) == 2 and type(holds[0]) is int and type(holds[1]) is bytes
        ):
            raise FrameError(f"{message['kind']}: what {name} holds is no version and state")
        held = None if holds is None else (holds[0], holds[1])
        return Declared(name, _get(message, "type", bytes), _line(message, "type_text"), limit, held)

    def _update(self, message: Message) -> Aged | Complained | None:
        name, is_whole = _get(message, "structure", str), message["kind"] == "whole"
        size, limit = _get(message, "size", int), self.limits.get(name, -1)
        head = Update(
            name,
            _get(message, "token", int),
            0 if is_whole else _get(message, "base_version", int),
            NO_STATE if is_whole else _state(message, "base"),
            _get(message, "version", int),
            _state(message, "state"),
            _state(message, "sum"),
            b"",
        )
        found = self._assembly.begin(head, _get(message, "age_us", int), size, _get(message, "data", bytes), limit)
        if limit < 0:
            return Complained(name, "unknown-structure", f"an update of {name}, which was not declared", "")
        if size > limit * (1 if is_whole else 2):
            what = f"structure {name}: {size / _MIB:.1f} MiB, and its limit is {limit / _MIB:.1f} MiB"
            return Complained(name, "too-large", what, "a higher limit on both sides")
        return found


def _unpacked(body: bytes) -> Message:
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise FrameError(f"a frame that holds no msgpack: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise FrameError("a frame that holds no map with a kind")
    return message


def _get(message: Message, name: str, kind: type) -> Any:
    value = message.get(name)
    if type(value) is not kind:
        raise FrameError(f"{message['kind']}: the field {name} is no {kind.__name__}")
    return value


def _line(message: Message, name: str) -> str:
    return " ".join(str(_get(message, name, str)).split())[:LINE_CHARS_MAX]


def _state(message: Message, name: str) -> bytes:
    value: bytes = _get(message, name, bytes)
    if len(value) != len(NO_STATE):
        raise FrameError(f"{message['kind']}: the field {name} has not {len(NO_STATE)} bytes")
    return value


def _versions(found: dict[Any, Any]) -> dict[str, int]:
    if not all(type(name) is str and type(version) is int for name, version in found.items()):
        raise FrameError("current: versions is no map of names to numbers")
    return found
