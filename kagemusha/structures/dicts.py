"""Dicts: `Dict`, which reports each change, and the node of any dict: deltas by key, in the order of the keys."""

from __future__ import annotations

from itertools import compress
from operator import is_, is_not, ne
from typing import Any

from kagemusha.structures.node import Node, Surroundings
from kagemusha.structures.watches import patch

_put = dict.__setitem__
_delete = dict.__delitem__
_MISSING = object()


class Dict(dict):  # type: ignore[type-arg]  # dict[...] as a base costs each assignment a look-up
    """A dict that knows what was changed. Reading costs what it costs in a dict; an assignment 0.2 to 0.3 us more."""

    __slots__ = ("__weakref__", "_kagemusha")
    _kagemusha: DictNode | None

    def __new__(cls, *arguments: Any, **items: Any) -> Dict:
        """Make an empty one that belongs to no structure yet."""
        self = dict.__new__(cls)
        self._kagemusha = None
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        """See dict."""
        _put(self, key, value)
        node = self._kagemusha
        if node is not None:
            node.dirty[key] = value
            if node.clean:  # after it was noted: a delta that is taken in between leaves it to the next one
                node.touch(self)

    def __delitem__(self, key: Any) -> None:
        """See dict."""
        _delete(self, key)
        if self._kagemusha is not None:
            self._kagemusha.forget(self, key)

    def pop(self, key: Any, *default: Any) -> Any:
        """See dict."""
        there = key in self
        value = dict.pop(self, key, *default)
        if there and self._kagemusha is not None:
            self._kagemusha.forget(self, key)
        return value

    def popitem(self) -> tuple[Any, Any]:
        """See dict."""
        key, value = dict.popitem(self)
        if self._kagemusha is not None:
            self._kagemusha.forget(self, key)
        return key, value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """See dict."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *arguments: Any, **items: Any) -> None:
        """See dict."""
        node = self._kagemusha
        if node is None:
            dict.update(self, *arguments, **items)
            return
        new: dict[Any, Any] = dict(*arguments, **items)
        dict.update(self, new)
        node.touch(self)
        node.dirty.update(new)

    def __ior__(self, other: Any) -> Dict:  # type: ignore[misc]
        """See dict."""
        self.update(other)
        return self

    def clear(self) -> None:
        """See dict."""
        dict.clear(self)
        if self._kagemusha is not None:
            self._kagemusha.renew(self)

    def __reduce__(self) -> Any:
        """Copies belong to no structure."""
        return type(self), (dict(self),)


class DictNode(Node):
    """`dirty`: what was set since the last delta, in order. `gone`: keys that were deleted first."""

    __slots__ = ("_shadow", "dirty", "gone")
    kind = "dict"

    def __init__(self, graph: Surroundings, number: int) -> None:
        super().__init__(graph, number)
        self.dirty: dict[Any, Any] = {}
        self.gone: dict[Any, None] = {}
        self._shadow: dict[Any, Any] = {}

    @classmethod
    def make(cls, detail: Any) -> Dict:
        """See Node."""
        return Dict()

    def forget_changes(self) -> None:
        """See Node."""
        super().forget_changes()
        self.dirty, self.gone = {}, {}

    def forget(self, target: Any, key: Any) -> None:
        """A key was deleted; if it comes again it does so at the end."""
        if self.clean:
            self.touch(target)
        self.dirty.pop(key, None)
        self.gone[key] = None

    def remember(self, target: Any) -> None:
        """See Node."""
        self._shadow = dict(target)

    def scan(self, target: Any) -> None:
        """See Node: by identity, so an equal but other value counts as changed."""
        shadow = self._shadow
        if len(target) == len(shadow) and all(map(is_, target, shadow)):
            changed = list(compress(target, map(is_not, target.values(), shadow.values())))
            if not changed:
                return
        else:
            changed = [key for key, value in target.items() if shadow.get(key, _MISSING) is not value]
            self.gone = dict.fromkeys(key for key in shadow if key not in target)
            kept = [key for key in shadow if key not in self.gone]
            if any(map(ne, kept, target)):
                self.whole = True
        self.touch(target)
        self.dirty = {key: target[key] for key in changed}
        self.remember(target)

    def take(self, target: Any) -> list[Any] | None:
        """See Node. The operation: number, "put", keys gone, keys, values, patches."""
        dirty, gone = self.dirty, self.gone
        self.dirty, self.gone, self.clean = {}, {}, True
        if self.whole:
            return self.fill(target)
        patches: list[Any] = []
        if self.watches:
            for key in gone:
                self.watches.pop(key, None)
            replaced, patches = self.looked(target.__getitem__, dirty)
            dirty.update({key: target[key] for key in replaced})
        if not dirty and not gone and not patches:
            return None
        return [self.number, "put", *self._columns(gone, dirty), patches]

    def _columns(self, gone: dict[Any, None], items: dict[Any, Any]) -> list[Any]:
        packer = self.graph.packer
        columns = [packer.keys(gone), packer.keys(items), packer.column(items.values())]
        self.watch_all(items, items.values(), columns[2][0])
        return columns

    def fill(self, target: Any) -> list[Any]:
        """See Node. The operation: number, "fill", no keys gone, keys, values, no patches."""
        self.whole = False
        self.watches = {}
        return [self.number, "fill", *self._columns({}, target), []]

    def apply(self, target: Any, operation: list[Any]) -> None:
        """See Node."""
        _, what, gone, keys, values, patches = operation
        unpacker = self.graph.unpacker
        if what == "fill":
            dict.clear(target)
        for key in unpacker.column(gone):
            dict.pop(target, key, None)
        dict.update(target, zip(unpacker.column(keys), unpacker.column(values)))
        for key, blocks in patches:
            patch(target[unpacker.one(key)], blocks)
