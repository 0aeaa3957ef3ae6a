"""The graph of the containers of one structure, and its deltas: what is sent and how it is applied.

How changes are found, and why so. A program that keeps a million entries can't have them compared every 100 ms: one
look at each costs 50 ms and the interpreter lock. So containers can report: `Dict`, `List`, `Deque`, `Set` are real
subclasses, which read at the speed of the built-in types and note the key at each change; a delta then costs what
changed. But a plain dict can't be made one of them after the fact, and a copy put in its place would leave every other
reference to the old one, silently: changes would be lost. So a plain container is never replaced: it stays where it is
and is compared, at a cost that grows with its size and is right for small ones. Both may hold each other.

Every tracked container has a number: its node. Operations name nodes, not paths, so an item that moves in a list is
not sent again, the same container in two places is one container on the mirror too, and cycles are possible. Values
that are neither tracked nor immutable are sent with the container that holds them, and watched there (watches.py).

The bytes of a delta or a whole copy, in msgpack: [created, operations, dropped]. `created`: [number, kind, detail] for
each new container (kinds.py); `operations`: what to do in which, in order (each kind's file says which there are);
`dropped`: numbers that nobody has any more, and of a whole copy the highest that was ever given. Number 0 is the root.

A copy that becomes the original goes on from what it holds, and whoever holds the same follows: if nothing in it could
change unseen while it was a copy, since everything is tracked or can't change (`is_certain`).
"""

from __future__ import annotations

import enum
import sys
import weakref
from collections import deque
from typing import Any, Callable

import msgpack

from kagemusha.structures.kinds import kind_named, kind_of
from kagemusha.structures.node import Node
from kagemusha.structures.values import ATOMIC, Packer, Types, Unpacker, numpy
from kagemusha.structures.whole_copy import PIECE_ITEMS, Items, WholeCopy

ROOT = 0


def _mark(container: Any, node: Node | None) -> None:
    object.__setattr__(container, "_kagemusha", node)  # past what reports assignments


def _nothing() -> None:
    return None


class Graph:
    """All containers of one structure, on either side. Not safe for threads: the caller keeps changes away."""

    def __init__(self, root: Any, types: Types) -> None:
        """Raises NotEncodable when `root` can't be mirrored."""
        self.root = root
        self.packer = Packer(types, self._link)
        self.unpacker = Unpacker(types, self._container, self._see)
        self.copy: WholeCopy | None = None
        self.touched: dict[int, Any] = {}
        self.watching: dict[int, Node] = {}
        self._types = types
        self._nodes: dict[int, Node] = {}
        self._targets: dict[int, Callable[[], Any]] = {}
        self._kept: dict[int, Any] = {}
        self._fresh: deque[Any] = deque()
        self._dropped: list[int] = []
        self._next = ROOT
        self._add_root()

    def _add_root(self) -> None:
        node = kind_of(self.root)(self, ROOT)
        self.scanned = not hasattr(self.root, "_kagemusha")
        self.is_certain = not self.scanned
        if not self.scanned:
            _mark(self.root, node)
        self._nodes = {ROOT: node}
        self._targets = {ROOT: lambda: self.root}
        self._next = max(self._next, ROOT + 1)

    def is_settled(self, value: Any) -> bool:
        """Whether a value can't change without telling."""
        kind = type(value)
        if kind in ATOMIC:
            return True
        if kind is tuple or kind is frozenset:
            return all(map(self.is_settled, value))
        if hasattr(kind, "_kagemusha"):
            return value._kagemusha is None or value._kagemusha.graph is self
        own = self._types.of(kind)
        if own is not None:
            return own.immutable
        module = numpy()
        return isinstance(value, enum.Enum) or (module is not None and isinstance(value, module.generic))

    def _see(self, values: Any) -> None:
        """Values of any kind have come into a copy."""
        if self.is_certain and not all(map(self.is_settled, values)):
            self.is_certain = False

    def _link(self, container: Any) -> int | None:
        """Return the number of a tracked container, which may be new; None if another structure has it."""
        node: Node | None = container._kagemusha
        if node is None:
            node = self._add(self._next, container)
            self._fresh.append(container)
        return node.number if node.graph is self else None

    def _add(self, number: int, container: Any) -> Node:
        node = kind_of(container)(self, number)
        _mark(container, node)
        self._nodes[number] = node
        self._targets[number] = weakref.ref(container, lambda _: self._gone(number))
        self._next = max(self._next, number + 1)
        return node

    def _gone(self, number: int) -> None:
        self._nodes.pop(number, None)
        self._targets.pop(number, None)
        self.watching.pop(number, None)
        self._dropped.append(number)

    def _container(self, number: int) -> Any:
        return self.root if number == ROOT else self._kept[number]

    def take(self) -> bytes | None:
        """Return what changed since the last take() or whole(), which must have been; None if nothing did.

        Raises NotEncodable. What was reported until then is lost in that case: only whole() may follow.
        """
        if self.scanned:
            self._nodes[ROOT].scan(self.root)
        asked, self.touched = self.touched, {}
        for number, node in self.watching.copy().items():
            target = self._targets.get(number, _nothing)()
            if not node.watches:
                self.watching.pop(number, None)
            elif target is not None:
                asked.setdefault(number, target)
        operations = [self._nodes[number].take(target) for number, target in asked.items()]
        return self._delta([operation for operation in operations if operation is not None])

    def whole(self) -> bytes:
        """Return everything; raises NotEncodable, as take() does. Bytes are equal for equal graphs."""
        copy = self.begin_copy(sys.maxsize)
        self.copy = None
        return copy.data()

    def begin_copy(self, piece_items: int = PIECE_ITEMS) -> WholeCopy:
        """Take hold of everything; deltas follow into the copy as long as it is `copy`. Raises NotEncodable.

        Containers with more items than `piece_items`, none of which is watched, are packed later, so many at a time.
        """
        self.touched = {}
        self.copy = None
        self._fresh.clear()
        if self.scanned:
            self._nodes[ROOT].remember(self.root)
        copy = WholeCopy(self.packer, self.is_settled)
        created: list[Any] = []
        operations: list[Any] = []
        # What nobody has any more goes whenever garbage is collected, even in the middle of this: so all is held first.
        nodes = self._nodes.copy()
        there = [(number, nodes[number], self._targets.get(number, _nothing)()) for number in sorted(nodes)]
        for number, node, target in there:
            if target is None:
                continue
            if number != ROOT:
                created.append([number, node.kind, node.detail(target)])
            if node.kind in ("dict", "list") and len(target) > piece_items and not node.watches:
                node.forget_changes()
                copy.hold(Items(number, target, piece_items))
                continue
            node.whole = True
            operations.append(node.take(target))
        self._describe_fresh(created, operations)
        highest = self._next - 1
        copy.begin(created, operations, [] if highest in self._nodes else [highest])
        self.copy = copy
        return copy

    def _describe_fresh(self, created: list[Any], operations: list[Any]) -> None:
        while self._fresh:
            container = self._fresh.popleft()
            node = container._kagemusha
            created.append([node.number, node.kind, node.detail(container)])
            node.whole = True
            operations.append(node.take(container))

    def _delta(self, operations: list[Any]) -> bytes | None:
        created: list[Any] = []
        self._describe_fresh(created, operations)
        if not operations:
            return None
        dropped, self._dropped = self._dropped, []
        if self.copy is not None:
            self.copy.follow(created, operations, dropped)
        packed: bytes = msgpack.packb([created, operations, dropped])
        return packed

    def apply(self, data: bytes, *, whole: bool) -> None:
        """Carry out a delta or whole copy, past the tracking.

        Raises whatever malformed bytes lead to; the content is then worth nothing until a whole copy was applied.
        """
        if whole:
            self.let_go()
        created, operations, dropped = msgpack.unpackb(data, strict_map_key=False)
        for number, kind, detail in created:
            if number in self._nodes:
                raise ValueError(f"a second container with the number {number}")
            self._kept[number] = container = kind_named(kind).make(detail)
            self._add(number, container)
        for operation in operations:
            self._nodes[operation[0]].apply(self._container(operation[0]), operation)
        for number in dropped:
            self._kept.pop(number, None)
            self._next = max(self._next, number + 1)  # as others know it, even where it has never been here
        self._dropped.clear()

    def let_go(self) -> None:
        """Forget all containers but the root; whoever still has one has it for himself."""
        for target in list(self._targets.values()):
            container = target()
            if container is not self.root and container is not None:
                _mark(container, None)
        self._kept = {}
        self.copy = None
        self.touched = {}
        self.watching = {}
        self._fresh.clear()
        self._dropped.clear()
        self._add_root()

    @property
    def is_changed(self) -> bool:
        """Whether a tracked container was changed since the last take(), whole() or apply()."""
        return bool(self.touched)

    def lead(self) -> None:
        """A copy becomes the original: containers live as long as the program has them.

        take() may come next where the copy `is_certain` and has not changed; else whole() must.
        """
        self._kept = {}
