"""Lists: `List`, which reports each change, and the node of any list: a log of splices and of assignments.

C code that writes into a list without asking it (`heapq` does) is not seen by `List`: keep heaps in plain lists, which
are compared.
"""

from __future__ import annotations

from itertools import compress, count
from operator import is_not
from typing import Any, Union

from kagemusha.structures.node import Node, Surroundings
from kagemusha.structures.values import MIXED
from kagemusha.structures.watches import patch

_append = list.append


class List(list):  # type: ignore[type-arg]  # see Dict
    """A list that knows what was changed."""

    __slots__ = ("__weakref__", "_kagemusha")
    _kagemusha: ListNode | None

    def __new__(cls, *arguments: Any) -> List:
        """Make an empty one that belongs to no structure yet."""
        self = list.__new__(cls)
        self._kagemusha = None
        return self

    def __setitem__(self, place: Any, value: Any) -> None:
        """See list."""
        node = self._kagemusha
        if isinstance(place, slice):
            value = list(value)
            start, stop, step = place.indices(len(self))
            list.__setitem__(self, place, value)
            if node is not None and step == 1:
                node.splice(self, start, max(0, stop - start), value)
            elif node is not None:
                node.renew(self)
            return
        list.__setitem__(self, place, value)
        if node is not None:
            node.assign(self, place if place >= 0 else place + len(self), value)

    def __delitem__(self, place: Any) -> None:
        """See list."""
        size = len(self)
        list.__delitem__(self, place)
        node = self._kagemusha
        if node is None:
            return
        if not isinstance(place, slice):
            node.splice(self, place if place >= 0 else place + size, 1, [])
        elif place.step is None or place.step == 1:
            start, stop, _ = place.indices(size)
            node.splice(self, start, max(0, stop - start), [])
        else:
            node.renew(self)

    def append(self, value: Any) -> None:
        """See list."""
        node = self._kagemusha
        if node is not None:
            node.splice(self, len(self), 0, [value])
        _append(self, value)

    def extend(self, values: Any) -> None:
        """See list."""
        values = list(values)
        if self._kagemusha is not None:
            self._kagemusha.splice(self, len(self), 0, values)
        list.extend(self, values)

    def __iadd__(self, values: Any) -> List:  # type: ignore[misc]
        """See list."""
        self.extend(values)
        return self

    def __imul__(self, times: Any) -> List:  # type: ignore[misc]
        """See list."""
        list.__imul__(self, times)
        return self._renewed()

    def insert(self, place: Any, value: Any) -> None:
        """See list."""
        self[place:place] = [value]

    def pop(self, place: Any = -1) -> Any:
        """See list."""
        value = list.pop(self, place)
        if self._kagemusha is not None:
            self._kagemusha.splice(self, place if place >= 0 else place + len(self) + 1, 1, [])
        return value

    def remove(self, value: Any) -> None:
        """See list."""
        del self[self.index(value)]

    def clear(self) -> None:
        """See list."""
        list.clear(self)
        self._renewed()

    def reverse(self) -> None:
        """See list."""
        list.reverse(self)
        self._renewed()

    def sort(self, **how: Any) -> None:
        """See list."""
        list.sort(self, **how)
        self._renewed()

    def _renewed(self) -> List:
        if self._kagemusha is not None:
            self._kagemusha.renew(self)
        return self

    def __reduce__(self) -> Any:
        """Copies belong to no structure."""
        return type(self), (list(self),)

    def __init__(self, *arguments: Any) -> None:
        """See list."""
        list.__init__(self, *arguments)
        self._renewed()


class _Splice:
    """`removed` items at `at` made room for `items`."""

    __slots__ = ("at", "items", "removed")

    def __init__(self, at: int, removed: int, items: list[Any]) -> None:
        self.at = at
        self.removed = removed
        self.items = items

    def absorbs(self, at: int, removed: int, items: list[Any]) -> bool:
        """Take a following splice in if it lies within what this one put there."""
        if not self.at <= at or at + removed > self.at + len(self.items):
            return False
        self.items[at - self.at : at - self.at + removed] = items
        return True


_Segment = Union[_Splice, "dict[int, Any]"]


class ListNode(Node):
    """`log`: what happened since the last delta, in order; dicts are assignments: place -> value."""

    __slots__ = ("_shadow", "log")
    kind = "list"

    def __init__(self, graph: Surroundings, number: int) -> None:
        super().__init__(graph, number)
        self.log: list[_Segment] = []
        self._shadow: list[Any] = []

    @classmethod
    def make(cls, detail: Any) -> List:
        """See Node."""
        return List()

    def assign(self, target: Any, place: int, value: Any) -> None:
        """An item was replaced."""
        if self.clean:
            self.touch(target)
        last = self.log[-1] if self.log else None
        if isinstance(last, dict):
            last[place] = value
        elif last is None or not last.absorbs(place, 1, [value]):
            self.log.append({place: value})

    def splice(self, target: Any, at: int, removed: int, items: list[Any]) -> None:
        """Some items made room for others. `at` is their place before."""
        if self.clean:
            self.touch(target)
        last = self.log[-1] if self.log else None
        if isinstance(last, _Splice) and last.absorbs(at, removed, items):
            return
        if len(self.log) > 64 + len(target) // 2:
            self.renew(target)
        self.log.append(_Splice(at, removed, list(items)))

    def renew(self, target: Any) -> None:
        """See Node."""
        super().renew(target)
        self.log.clear()

    def forget_changes(self) -> None:
        """See Node."""
        super().forget_changes()
        self.log = []

    def remember(self, target: Any) -> None:
        """See Node."""
        self._shadow = list(target)

    def scan(self, target: Any) -> None:
        """See Node: by identity."""
        old, new = self._shadow, list(target)
        if len(old) == len(new):
            assigned = dict(compress(enumerate(new), map(is_not, old, new)))
            if assigned:
                self.touch(target)
                self.log.append(assigned)
        else:
            at = next(compress(count(), map(is_not, old, new)), min(len(old), len(new)))
            room = min(len(old), len(new)) - at
            tail = next(compress(count(), map(is_not, reversed(old), reversed(new))), room)
            tail = min(tail, room)
            self.splice(target, at, len(old) - tail - at, new[at : len(new) - tail])
        self._shadow = new

    def take(self, target: Any) -> list[Any] | None:
        """See Node. The operation: number, "log", segments, patches; a segment is [places, values] or
        [at, removed, values]."""
        log, self.log, self.clean = self.log, [], True
        if self.whole:
            return self.fill(target)
        column = self.graph.packer.column
        segments: list[Any] = []
        moved = False
        for segment in log:
            if isinstance(segment, dict):
                values = list(segment.values())
                segments.append([column(list(segment)), column(values)])
                self.watch_all(segment, values, segments[-1][1][0])
            else:
                segments.append([segment.at, segment.removed, column(segment.items)])
                if self.watches or (segments[-1][2][0] == MIXED and not all(map(self.graph.is_settled, segment.items))):
                    moved = True
        patches: list[Any] = []
        if moved:
            segments += self._watched_anew(target)
        elif self.watches:
            replaced, patches = self.looked(target.__getitem__, ())
            if replaced:
                segments.append([column(replaced), column([target[place] for place in replaced])])
        return [self.number, "log", segments, patches] if segments or patches else None

    def _watched_anew(self, target: Any) -> list[Any]:
        """Items that have a watch have moved: send them again, and watch them where they are now."""
        self.watches = {}
        self.watch_all(range(len(target)), list(target))
        if not self.watches:
            return []
        places = list(self.watches)
        column = self.graph.packer.column
        return [[column(places), column([target[place] for place in places])]]

    def fill(self, target: Any) -> list[Any]:
        """See Node. The operation: number, "fill", values."""
        self.whole = False
        self.watches = {}
        items = list(target)
        column = self.graph.packer.column(items)
        self.watch_all(range(len(items)), items, column[0])
        return [self.number, "fill", column]

    def apply(self, target: Any, operation: list[Any]) -> None:
        """See Node."""
        column = self.graph.unpacker.column
        if operation[1] == "fill":
            list.__setitem__(target, slice(None), column(operation[2]))
            return
        _, _, segments, patches = operation
        for segment in segments:
            if len(segment) == 2:
                for place, value in zip(column(segment[0]), column(segment[1])):
                    list.__setitem__(target, place, value)
            else:
                at, removed, items = segment
                list.__setitem__(target, slice(at, at + removed), column(items))
        for place, blocks in patches:
            patch(target[self.graph.unpacker.one(place)], blocks)
