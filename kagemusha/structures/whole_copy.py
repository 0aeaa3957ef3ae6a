"""A whole copy that is made in pieces while the program goes on.

At one instant everything is taken hold of: small containers are packed, of large ones only the references to their
items are copied. The items are packed later, some at a time, in any thread; they must be such that can't change
meanwhile. What changes after that instant follows as deltas, so that the copy is, in the end, what it was at the last
of them. The bytes are those of any whole copy (graph.py).
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, Callable

import msgpack

from kagemusha.structures.errors import NotEncodable
from kagemusha.structures.values import ATOMIC, MIXED, Packer

PIECE_ITEMS = 8192
"""Items of a large container that are packed at a time: about a millisecond."""

IsSettled = Callable[[Any], bool]


class Unsettled(Exception):
    """A value could change while it waits to be packed: the copy must be made at one instant."""


class Items:
    """What a large dict or list held at an instant, in pieces. `number`: of its node."""

    def __init__(self, number: int, target: Any, piece_items: int) -> None:
        self.number = number
        self.is_dict = isinstance(target, dict)
        self.packed = 0
        columns = [iter(target), iter(target.values())] if self.is_dict else [iter(target)]
        self._pieces = deque(
            tuple(list(islice(column, piece_items)) for column in columns)
            for _ in range(0, max(1, len(target)), piece_items)
        )

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def next_operation(self, packer: Packer, is_settled: IsSettled) -> list[Any]:
        """Pack the next piece; return its operation (dicts.py, lists.py). Raises NotEncodable or Unsettled."""
        piece = self._pieces.popleft()
        at, self.packed = self.packed, self.packed + len(piece[0])
        columns = [_settled_column(column, packer, is_settled) for column in piece]
        if self.is_dict:
            return [self.number, "put" if at else "fill", packer.column([]), *columns, []]
        return [self.number, "log", [[at, 0, columns[0]]], []] if at else [self.number, "fill", columns[0]]


def _settled_column(values: list[Any], packer: Packer, is_settled: IsSettled) -> tuple[int, bytes]:
    column = packer.column(values)
    if column[0] == MIXED and not all(type(value) in ATOMIC or is_settled(value) for value in values):
        raise Unsettled
    return column


def _refuse_container(_: Any) -> int:
    raise Unsettled


class WholeCopy:
    """One whole copy in the making. `is_new`: of a version that nobody can have, so that deltas are of no use alone."""

    def __init__(self, packer: Packer, is_settled: IsSettled) -> None:
        """`packer`: of the graph; tracked containers among the items of a large one are refused."""
        self.is_new = False
        self._packer = packer.linked_by(_refuse_container)
        self._is_settled = is_settled
        self._created: list[bytes] = []
        self._operations: list[bytes] = []
        self._items: list[Items] = []
        self._later: list[bytes] = []
        self._dropped: list[int] = []

    @property
    def is_packed(self) -> bool:
        """Whether nothing waits to be packed."""
        return not self._items

    def hold(self, items: Items) -> None:
        """Have these packed later."""
        self._items.append(items)

    def begin(self, created: list[Any], operations: list[Any], dropped: list[int]) -> None:
        """Take what is in it from the start."""
        self._created += map(msgpack.packb, created)
        self._operations += map(msgpack.packb, operations)
        self._dropped += dropped

    def follow(self, created: list[Any], operations: list[Any], dropped: list[int]) -> None:
        """Take a delta in: it was made after everything that is in it."""
        self._created += map(msgpack.packb, created)
        self._later += map(msgpack.packb, operations)
        self._dropped += dropped

    def step(self) -> bool:
        """Pack some more; False when all is packed. Raises NotEncodable, or Unsettled: this copy is worth nothing."""
        if self._items:
            items = self._items[0]
            try:
                operation = items.next_operation(self._packer, self._is_settled)
            except NotEncodable:
                raise Unsettled from None  # it is said with its place when the copy is made at one instant
            self._operations.append(msgpack.packb(operation))
            if not items:
                self._items.pop(0)
        return bool(self._items)

    def data(self) -> bytes:
        """Return its bytes; everything must be packed."""
        header = msgpack.Packer().pack_array_header
        operations = len(self._operations) + len(self._later)
        return b"".join(
            [
                *(b"\x93", header(len(self._created)), *self._created),
                *(header(operations), *self._operations, *self._later),
                msgpack.packb(self._dropped),
            ]
        )
