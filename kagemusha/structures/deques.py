"""Deques: `Deque`, which reports each change, and the node of any deque.

A deque is a window: what happens at its ends is counted, not logged, so that a queue through which a million items went
since the last delta costs what it holds now. Changes in its middle send it whole.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from kagemusha.structures.node import Node, Surroundings
from kagemusha.structures.watches import patch


class Deque(deque):  # type: ignore[type-arg]  # see Dict
    """A deque that knows what was changed."""

    _kagemusha: DequeNode | None = None

    def append(self, value: Any) -> None:
        """See deque."""
        if self._kagemusha is not None:
            self._kagemusha.grow(self, 1, right=True)
        deque.append(self, value)

    def appendleft(self, value: Any) -> None:
        """See deque."""
        if self._kagemusha is not None:
            self._kagemusha.grow(self, 1, right=False)
        deque.appendleft(self, value)

    def extend(self, values: Any) -> None:
        """See deque."""
        for value in list(values):
            self.append(value)

    def extendleft(self, values: Any) -> None:
        """See deque."""
        for value in list(values):
            self.appendleft(value)

    def pop(self) -> Any:  # type: ignore[override]
        """See deque."""
        value = deque.pop(self)
        if self._kagemusha is not None:
            self._kagemusha.shrink(self, right=True)
        return value

    def popleft(self) -> Any:
        """See deque."""
        value = deque.popleft(self)
        if self._kagemusha is not None:
            self._kagemusha.shrink(self, right=False)
        return value

    def __setitem__(self, place: Any, value: Any) -> None:
        """See deque."""
        deque.__setitem__(self, place, value)
        if self._kagemusha is not None:
            self._kagemusha.assign(self, place if place >= 0 else place + len(self))

    def __delitem__(self, place: Any) -> None:
        """See deque."""
        deque.__delitem__(self, place)
        self._renewed()

    def __iadd__(self, values: Any) -> Deque:  # type: ignore[misc]
        """See deque."""
        self.extend(values)
        return self

    def __imul__(self, times: Any) -> Deque:  # type: ignore[misc]
        """See deque."""
        deque.__imul__(self, times)
        return self._renewed()

    def insert(self, place: Any, value: Any) -> None:
        """See deque."""
        deque.insert(self, place, value)
        self._renewed()

    def remove(self, value: Any) -> None:
        """See deque."""
        deque.remove(self, value)
        self._renewed()

    def clear(self) -> None:
        """See deque."""
        deque.clear(self)
        self._renewed()

    def reverse(self) -> None:
        """See deque."""
        deque.reverse(self)
        self._renewed()

    def rotate(self, steps: int = 1) -> None:
        """See deque."""
        deque.rotate(self, steps)
        self._renewed()

    def _renewed(self) -> Deque:
        if self._kagemusha is not None:
            self._kagemusha.renew(self)
        return self

    def __init__(self, *arguments: Any, **how: Any) -> None:
        """See deque."""
        deque.__init__(self, *arguments, **how)
        self._renewed()

    def __copy__(self) -> Deque:
        """Copies belong to no structure."""
        return type(self)(self, self.maxlen)

    copy = __copy__

    def __reduce__(self) -> Any:
        """Copies belong to no structure."""
        return type(self), (list(self), self.maxlen)


class DequeNode(Node):
    """What is left of the deque of the last delta is `kept` items of it, after `left` that went there; `head` new
    items are before them and `tail` after. `assigned`: places among the kept, counted in the old deque."""

    __slots__ = ("_shadow", "assigned", "head", "kept", "left", "size", "tail")
    kind = "deque"

    def __init__(self, graph: Surroundings, number: int) -> None:
        super().__init__(graph, number)
        self.assigned: set[int] = set()
        self._shadow: list[Any] = []
        self._settle(0)

    @classmethod
    def layout(cls, target: Any) -> str:
        """See Node."""
        return f"deque {target.maxlen}"

    @classmethod
    def detail(cls, target: Any) -> Any:
        """See Node: the most items that it holds, or None."""
        return target.maxlen

    @classmethod
    def make(cls, detail: Any) -> Deque:
        """See Node."""
        return Deque((), detail)

    def _settle(self, size: int) -> None:
        self.size = self.kept = size
        self.head = self.tail = self.left = 0
        self.assigned.clear()

    def grow(self, target: Any, number: int, *, right: bool) -> None:
        """An item is about to come to an end; a full deque loses one at the other."""
        if self.clean:
            self.touch(target)
        if target.maxlen == 0:
            return
        if len(target) == target.maxlen:
            self.shrink(target, right=not right)
        if right:
            self.tail += number
        else:
            self.head += number

    def shrink(self, target: Any, *, right: bool) -> None:
        """An item went from an end."""
        if self.clean:
            self.touch(target)
        if right and self.tail:
            self.tail -= 1
        elif not right and self.head:
            self.head -= 1
        elif self.kept:
            self.kept -= 1
            self.left += not right
        elif right:
            self.head -= 1
        else:
            self.tail -= 1

    def assign(self, target: Any, place: int) -> None:
        """An item was replaced."""
        if self.clean:
            self.touch(target)
        if self.head <= place < self.head + self.kept:
            self.assigned.add(place - self.head + self.left)

    def remember(self, target: Any) -> None:
        """See Node."""
        self._shadow = list(target)

    def scan(self, target: Any) -> None:
        """See Node: by identity; a plain deque that changed other than at its ends is sent whole."""
        old, new = self._shadow, list(target)
        if len(old) == len(new) and all(a is b for a, b in zip(old, new)):
            return
        self.touch(target)
        self._shadow = new
        first = next((at for at, item in enumerate(old) if new and item is new[0]), None)
        if first is None:
            self.whole = True
            return
        kept = min(len(old) - first, len(new))
        if any(old[first + at] is not new[at] for at in range(kept)):
            self.whole = True
            return
        self.left, self.kept, self.head, self.tail = first, kept, 0, len(new) - kept

    def take(self, target: Any) -> list[Any] | None:
        """See Node. The operation: number, "ends", items gone left, items kept, items before, items after, places,
        values, patches."""
        self.clean = True
        if self.whole:
            return self.fill(target)
        head, tail, left, kept, size = self.head, self.tail, self.left, self.kept, self.size
        moved = bool(head or left)
        places = [place - left + head for place in sorted(self.assigned) if left <= place < left + kept]
        self._settle(len(target))
        before = list(islice(target, head))
        after = list(islice(target, head + kept, None))
        patches: list[Any] = []
        if self.watches and (moved or kept < size):
            places = sorted({*places, *(place - left + head for place in self.watches if left <= place < left + kept)})
            self.watches = {}
        elif self.watches:
            replaced, patches = self.looked(target.__getitem__, places)
            places += replaced
        column = self.graph.packer.column
        values = [target[place] for place in places]
        columns = [column(before), column(after), column(places), column(values)]
        self.watch_all(places, values)
        self.watch_all(range(head), before)
        self.watch_all(range(head + kept, head + kept + tail), after)
        if not (head or tail or places or patches or kept < size):
            return None
        return [self.number, "ends", left, kept, *columns, patches]

    def fill(self, target: Any) -> list[Any]:
        """See Node. The operation: number, "fill", values."""
        self.whole = False
        self.watches = {}
        self._settle(len(target))
        items = list(target)
        column = self.graph.packer.column(items)
        self.watch_all(range(len(items)), items, column[0])
        return [self.number, "fill", column]

    def apply(self, target: Any, operation: list[Any]) -> None:
        """See Node."""
        column = self.graph.unpacker.column
        if operation[1] == "fill":
            deque.clear(target)
            deque.extend(target, column(operation[2]))
            self._settle(len(target))
            return
        _, _, left, kept, before, after, places, values, patches = operation
        for _ in range(left):
            deque.popleft(target)
        for _ in range(len(target) - kept):
            deque.pop(target)
        deque.extendleft(target, reversed(column(before)))
        deque.extend(target, column(after))
        for place, value in zip(column(places), column(values)):
            deque.__setitem__(target, place, value)
        for place, blocks in patches:
            patch(target[self.graph.unpacker.one(place)], blocks)
        self._settle(len(target))
