"""Which descriptors a program has open and what they stand for, followed from stop to stop.

Connections come and go all the time, so that a socket that comes or goes changes its own entries only; anything else
that changes what numbers mean has the table made anew.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key, lru_cache
from itertools import groupby
from typing import Final

from agent.context.kind import Kind, ReadTogether, Walk
from agent.context.look import Look
from agent.context.record import pack
from agent.kernel.kcmp import order_of_files
from transport.checkpoint import Records

NUMBER: Final = "fd/"
DESCRIPTION: Final = "ofd/"
_ALIKE_MAX: Final = 16
"""Up to so many numbers that look alike are compared at every stop; more only when one of them looks different."""
_SOCKET: Final = "socket:"


@dataclass(frozen=True, slots=True)
class Number:
    """key: of the description that the number stands for."""

    key: str
    cloexec: bool


@dataclass(slots=True, eq=False)
class Description:
    """One open file description. number: its lowest."""

    number: int
    kind: Kind
    key: str


class Table:
    """The descriptors of a program. keys: of the description behind each number."""

    def __init__(self, kinds: Sequence[Kind], walk: Walk, before: Table | None, changed: Collection[int]) -> None:
        """As `walk` finds it. What `before` knows of numbers that are not among the `changed` ones is taken over."""
        self.keys: dict[int, str] = {}
        self._kinds = kinds
        self._by_key: dict[str, Description] = {}
        self._sockets: dict[int, list[int]] = {}
        self._groups: list[tuple[list[Look], list[list[int]]]] = []
        self._records: Records = {}
        self._moved = True
        self._due: dict[str, Description] = {}
        self._always: list[Description] = []
        self._together: list[tuple[ReadTogether, list[Description]]] = []
        alike: dict[tuple[str, int, int], list[Look]] = {}
        for look in walk.looks.values():
            if look.link.startswith(_SOCKET):  # its inode is its description's own
                self._sockets.setdefault(look.inode, []).append(look.number)
            else:
                alike.setdefault((look.link, look.flags, look.mount), []).append(look)
        found = list(self._sockets.values())
        for group in alike.values():
            numbers = [look.number for look in group]
            if len(group) == 1:
                found.append(numbers)
            else:
                self._groups.append((group, _split(walk.pid, numbers)))
                found.extend(self._groups[-1][1])
        for numbers in sorted(found):
            self._enter(numbers, walk)
        if before is not None:
            self._take_over(before, changed)
        self._sort()

    @property
    def descriptions(self) -> Iterable[Description]:
        """All of them."""
        return self._by_key.values()

    def follow(self, walk: Walk, changed: Mapping[int, Look | None]) -> bool:
        """Take in what `walk` finds; changed: the numbers that look different now, with their looks of before.

        False: what it takes is a new table.
        """
        moved = []
        for number, before in changed.items():
            now = walk.looks.get(number)
            if before is None or now is None or before.shape != now.shape:
                moved.append((before, now))
            elif (one := self._by_key[self.keys[number]]).number == number:
                self._note_due(one)
        if not all(one is None or one.link.startswith(_SOCKET) for pair in moved for one in pair):
            return False
        if not self._still_split(walk):
            return False
        if moved:
            self._moved = True
            self._move_sockets(moved, walk)
        return True

    def read(self, walk: Walk) -> Callable[[], Records]:
        """Read every description that may have changed; what it gives makes the records, before the next stop."""
        told = [(ones, kind.read([walk.looks[one.number] for one in ones], walk)) for kind, ones in self._together]
        records = self._records
        for one in (*self._always, *self._due.values()):
            records[DESCRIPTION + one.key] = one.kind.capture(walk.looks[one.number], walk)
        self._due.clear()
        self._moved = False

        def tell() -> Records:
            for ones, tell_kind in told:
                for one, data in zip(ones, tell_kind(), strict=True):
                    records[DESCRIPTION + one.key] = data
            return {**records, **walk.extra}

        return tell

    # ---------------------------------------------------------------- inside

    def _enter(self, numbers: Sequence[int], walk: Walk) -> None:
        look = walk.looks[numbers[0]]
        kind = next(kind for kind in self._kinds if kind.owns(look, walk))
        key = f"{kind.name}:{numbers[0]}"
        one = self._by_key[key] = Description(numbers[0], kind, key)
        self._note_due(one)
        for number in numbers:
            self.keys[number] = key
            self._records[f"{NUMBER}{number}"] = _packed(key, walk.looks[number].cloexec)

    def _note_due(self, one: Description) -> None:
        if one.kind.depends != "content":
            self._due[one.key] = one

    def _take_over(self, before: Table, changed: Collection[int]) -> None:
        """What depends on nothing but its look, and looks as before, keeps its record."""
        for key, one in tuple(self._due.items()):
            data = before._records.get(DESCRIPTION + key)
            known = one.kind.depends == "look" and key not in before._due and one.number not in changed
            if known and data is not None:
                self._records[DESCRIPTION + key] = data
                del self._due[key]

    def _move_sockets(self, moved: Sequence[tuple[Look | None, Look | None]], walk: Walk) -> None:
        """Sockets came, went, or got other numbers; first all that went, as a number may be in use again."""
        touched = {one.inode for pair in moved for one in pair if one is not None}
        for before, _ in moved:
            if before is not None:
                self._leave(self.keys.pop(before.number))
                del self._records[f"{NUMBER}{before.number}"]
                self._sockets[before.inode].remove(before.number)
        for _, now in moved:
            if now is not None:
                # A socket that has one more number may get another key.
                for number in self._sockets.get(now.inode, ()):
                    self._leave(self.keys.get(number, ""))
                insort(self._sockets.setdefault(now.inode, []), now.number)
        for inode in touched:
            numbers = self._sockets[inode]
            if numbers:
                self._enter(numbers, walk)
            else:
                del self._sockets[inode]
        self._sort()

    def _leave(self, key: str) -> None:
        """Forget a description; it may be forgotten already."""
        self._by_key.pop(key, None)
        self._due.pop(key, None)
        self._records.pop(DESCRIPTION + key, None)

    def _sort(self) -> None:
        """Which descriptions are read how."""
        by_kind: dict[str, list[Description]] = {}
        for one in self._by_key.values():
            by_kind.setdefault(one.kind.name, []).append(one)
        self._always, self._together = [], []
        for kind in self._kinds:
            ones = by_kind.get(kind.name, [])
            if ones and isinstance(kind, ReadTogether):
                self._together.append((kind, ones))
            elif kind.depends == "content":
                self._always += ones
            elif kind.depends == "table" and self._moved:
                self._due.update((one.key, one) for one in ones)

    def _still_split(self, walk: Walk) -> bool:
        """Whether numbers that look alike stand for the same descriptions as before: dup2(2) leaves no other trace.

        Small groups are asked about at every stop, large ones only when one of them looks different.
        """
        for position, (group, parts) in enumerate(self._groups):
            now = [walk.looks[look.number] for look in group]
            if len(group) > _ALIKE_MAX and now == group:
                continue
            if _split(walk.pid, [look.number for look in group]) != parts:
                return False
            self._groups[position] = (now, parts)
        return True


@lru_cache(maxsize=8192)
def _packed(key: str, cloexec: bool) -> bytes:
    return pack(Number(key, cloexec))


def _split(pid: int, numbers: list[int]) -> list[list[int]]:
    """Split ascending numbers that look alike by the description that they stand for."""

    def order(first: int, second: int) -> int:
        return order_of_files(pid, first, second)

    by_file = cmp_to_key(order)
    in_order = sorted(numbers, key=by_file)
    return sorted(sorted(same) for _, same in groupby(in_order, key=by_file))
