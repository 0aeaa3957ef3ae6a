"""What was seen of a run, as plain values, and the file that keeps them (pure but for `add` and `save`).

All times are CLOCK_MONOTONIC of the machine that looks, in nanoseconds. Checkers get nothing but this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
SILENCE_NS = 100 * NS_PER_MS
"""Of a program that is not heard for so long nobody says that it served all the while."""

Loses = Literal["nothing", "staleness", "everything"]
"""What a fault may cost: no write that was acknowledged, those that are newer than the reported staleness, or all."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One question of a client and its answer. A client has one list, which nobody else appends to.

    client: whose list. append: `number` (1, 2, 3, ...) was appended, and the list had `length` entries then. read: the
    list had `length`. ok: whether it was answered; else nobody knows whether it was done, and `length` is 0. asker: the
    client that asked, which of a read is seldom the one whose list it is.
    """

    client: str
    kind: Literal["append", "read"]
    number: int
    length: int
    begun_ns: int
    ended_ns: int
    ok: bool
    asker: str


@dataclass(frozen=True, slots=True)
class Content:
    """The whole list of a client, read when all was quiet."""

    client: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Serving:
    """A run of packets with data that a node sent from the program's address, with none of another node between, and
    no silence of SILENCE_NS."""

    node: str
    first_ns: int
    last_ns: int
    packets: int


@dataclass(frozen=True, slots=True)
class Report:
    """What the cluster said of the program that clients use. asked_ns: before it was asked. told_ns: when it had
    answered. lag_ms: the reported staleness."""

    program: str
    asked_ns: int
    told_ns: int
    token: int
    primary: str
    lag_ms: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Of which term a node said that it is, of the group of those who agree; 0: it takes no part, as its disk fails."""

    node: str
    asked_ns: int
    told_ns: int
    term: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """An event of the cluster's history, as the node `teller` tells it."""

    teller: str
    index: int
    kind: str
    program: str
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class RegistryOperation:
    """What one of those who change the registry asked of one program's entry, through a node, and what came of it.

    read: what the leader saw when it had just changed something. look: what any node knew, which may be old.
    degree: of pause, how long (1, 2, ...); of read and look, what was seen: None, there is no such program; 0, it is
    not paused. outcome: refused: there is such a program already (create), or none (all others). unknown: it may yet be
    done. until: of a pause that was acknowledged, when it ends, as the answer said it; else "".
    """

    client: str
    kind: Literal["create", "delete", "pause", "resume", "read", "look"]
    degree: int | None
    through: str
    begun_ns: int
    ended_ns: int
    outcome: Literal["ok", "refused", "unknown"]
    until: str = ""


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was in force. begun_ns: when nothing was done yet; in_force_ns: when it was done; over_ns: when it
    began to be healed; healed_ns: when it was. effect: how it showed, "" where it did not. whole_ns: when the program
    was served and mirrored again on every node, with all of them there; None: not within the time that was given.
    unhealed: why not."""

    number: int
    kind: str
    target: str
    node: str
    loses: Loses
    begun_ns: int
    in_force_ns: int
    over_ns: int
    healed_ns: int
    whole_ns: int | None
    effect: str
    unhealed: str = ""


@dataclass(frozen=True, slots=True)
class Census:
    """Processes of a kind on a node, the descriptors that they have open together and the memory that is resident, at a
    time when all was whole."""

    at_ns: int
    node: str
    role: str
    processes: int
    descriptors: int
    resident_kib: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at any time. owed: so many of its descriptors are another's doing. tasks: of its event loop; None:
    nobody could ask."""

    at_ns: int
    node: str
    role: str
    pid: int
    descriptors: int
    owed: int
    resident_kib: int
    threads: int
    tasks: int | None


@dataclass(slots=True)
class Evidence:
    """All of it."""

    operations: list[Operation] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    servings: list[Serving] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    history: list[Agreed] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    census: list[Census] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    registry: list[RegistryOperation] = field(default_factory=list)

    @property
    def program(self) -> str:
        """The one that clients use, of all that the history tells of; "" where nobody asked for it."""
        return self.reports[0].program if self.reports else ""

    def save(self, path: Path) -> None:
        """Write it down, one JSON object a line."""
        with path.open("w") as file:
            for line in self._lines():
                file.write(json.dumps(line) + "\n")

    def _lines(self) -> Iterator[dict[str, Any]]:
        for name in _KINDS:
            yield from map(as_line, getattr(self, name))

    def add(self, path: Path) -> None:
        """Take in what `save` wrote, or another witness in the same form."""
        places = {kind.__name__: (getattr(self, name), kind) for name, kind in _KINDS.items()}
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            place, kind = places[fields.pop("what")]
            place.append(kind(**{key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}))


def as_line(one: Any) -> dict[str, Any]:
    """One value as `Evidence.add` reads it."""
    return {"what": type(one).__name__, **asdict(one)}


_KINDS: dict[str, type[Any]] = {
    "operations": Operation,
    "contents": Content,
    "servings": Serving,
    "reports": Report,
    "standings": Standing,
    "history": Agreed,
    "struck": Struck,
    "census": Census,
    "samples": Sample,
    "registry": RegistryOperation,
}
