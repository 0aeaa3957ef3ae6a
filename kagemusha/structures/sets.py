"""Sets: `Set`, which reports each change, and the node of any set: deltas by element. Their order does not travel."""

from __future__ import annotations

from typing import Any

from kagemusha.structures.node import Node, Surroundings


class Set(set):  # type: ignore[type-arg]  # see Dict
    """A set that knows what was changed."""

    __slots__ = ("_kagemusha",)
    _kagemusha: SetNode | None

    def __new__(cls, *arguments: Any) -> Set:
        """Make an empty one that belongs to no structure yet."""
        self = set.__new__(cls)
        self._kagemusha = None
        return self

    def __init__(self, *arguments: Any) -> None:
        """See set."""
        set.__init__(self, *arguments)
        if self._kagemusha is not None:
            self._kagemusha.renew(self)

    def _noted(self, elements: Any) -> None:
        node = self._kagemusha
        if node is not None:
            node.touch(self)
            node.dirty.update(dict.fromkeys(elements))

    def add(self, element: Any) -> None:
        """See set."""
        set.add(self, element)
        self._noted((element,))

    def discard(self, element: Any) -> None:
        """See set."""
        if element in self:
            self.remove(element)

    def remove(self, element: Any) -> None:
        """See set."""
        set.remove(self, element)
        self._noted((element,))

    def pop(self) -> Any:
        """See set."""
        element = set.pop(self)
        self._noted((element,))
        return element

    def clear(self) -> None:
        """See set."""
        set.clear(self)
        if self._kagemusha is not None:
            self._kagemusha.renew(self)

    def _become(self, elements: set[Any]) -> Set:
        changed = elements.symmetric_difference(self)
        set.symmetric_difference_update(self, changed)
        self._noted(changed)
        return self

    def update(self, *others: Any) -> None:
        """See set."""
        self._become(self.union(*others))

    def intersection_update(self, *others: Any) -> None:
        """See set."""
        self._become(self.intersection(*others))

    def difference_update(self, *others: Any) -> None:
        """See set."""
        self._become(self.difference(*others))

    def symmetric_difference_update(self, other: Any) -> None:
        """See set."""
        self._become(self.symmetric_difference(other))

    def __ior__(self, other: Any) -> Set:  # type: ignore[misc]
        """See set."""
        return self._become(self | other)

    def __iand__(self, other: Any) -> Set:  # type: ignore[misc]
        """See set."""
        return self._become(self & other)

    def __isub__(self, other: Any) -> Set:  # type: ignore[misc]
        """See set."""
        return self._become(self - other)

    def __ixor__(self, other: Any) -> Set:  # type: ignore[misc]
        """See set."""
        return self._become(self ^ other)

    def __reduce__(self) -> Any:
        """Copies belong to no structure."""
        return type(self), (set(self),)


class SetNode(Node):
    """`dirty`: elements that came or went since the last delta."""

    __slots__ = ("_shadow", "dirty")
    kind = "set"

    def __init__(self, graph: Surroundings, number: int) -> None:
        super().__init__(graph, number)
        self.dirty: dict[Any, None] = {}
        self._shadow: set[Any] = set()

    @classmethod
    def make(cls, detail: Any) -> Set:
        """See Node."""
        return Set()

    def remember(self, target: Any) -> None:
        """See Node."""
        self._shadow = set(target)

    def scan(self, target: Any) -> None:
        """See Node."""
        changed = self._shadow.symmetric_difference(target)
        if changed:
            self.touch(target)
            self.dirty = dict.fromkeys(changed)
            self.remember(target)

    def take(self, target: Any) -> list[Any] | None:
        """See Node. The operation: number, "set", elements gone, elements there."""
        dirty, self.dirty, self.clean = self.dirty, {}, True
        if self.whole:
            return self.fill(target)
        gone = [element for element in dirty if element not in target]
        there = [element for element in dirty if element in target]
        column = self.graph.packer.column
        return [self.number, "set", column(gone), column(there)] if dirty else None

    def fill(self, target: Any) -> list[Any]:
        """See Node. The operation: number, "fill", no elements, elements in the order of their bytes."""
        self.whole = False
        packer = self.graph.packer
        return [self.number, "fill", packer.column([]), packer.column(packer.in_order(target))]

    def apply(self, target: Any, operation: list[Any]) -> None:
        """See Node."""
        _, what, gone, there = operation
        if what == "fill":
            set.clear(target)
        set.difference_update(target, self.graph.unpacker.column(gone))
        set.update(target, self.graph.unpacker.column(there))
