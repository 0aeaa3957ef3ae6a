"""Dataclass instances: the decorator that makes them report assignments, and the node of any: deltas by field."""

from __future__ import annotations

import dataclasses
from operator import is_not
from typing import Any

from kagemusha.structures.errors import NotEncodable
from kagemusha.structures.node import Node, Surroundings
from kagemusha.structures.values import blank, class_name
from kagemusha.structures.watches import patch

_NAMES: dict[type, list[str]] = {}


def tracked_class(cls: Any) -> Any:
    """Make the instances of a dataclass report what is assigned to their fields (a class decorator).

    Without it they are mirrored too, and compared whole at each interval. Raises NotEncodable for a class that is no
    dataclass, is frozen (nothing of it changes), or has slots (no room for the mark).
    """
    name = cls.__qualname__
    is_dataclass: bool = dataclasses.is_dataclass(cls)
    if not is_dataclass:
        raise NotEncodable(f"{name} is no dataclass", hint="put @structures.tracked above @dataclass")
    if not cls.__dictoffset__:
        raise NotEncodable(f"{name} has slots", hint="leave slots out, or mirror it without @structures.tracked")
    if cls.__dataclass_params__.frozen:
        raise NotEncodable(f"{name} is frozen: nothing of it changes", hint="leave @structures.tracked out")
    assign = cls.__setattr__

    def set_field(self: Any, field: str, value: Any) -> None:
        assign(self, field, value)
        node = self._kagemusha
        if node is not None:
            if node.clean:
                node.touch(self)
            node.dirty[field] = None

    def state_of_a_copy(self: Any) -> dict[str, Any]:
        return {field: value for field, value in self.__dict__.items() if field != "_kagemusha"}

    cls._kagemusha = None
    cls.__setattr__ = set_field
    cls.__getstate__ = state_of_a_copy
    return cls


class ObjectNode(Node):
    """`dirty`: names of what was assigned since the last delta."""

    __slots__ = ("_shadow", "dirty")
    kind = "object"

    def __init__(self, graph: Surroundings, number: int) -> None:
        super().__init__(graph, number)
        self.dirty: dict[str, None] = {}
        self._shadow: list[Any] = []

    @classmethod
    def layout(cls, target: Any) -> str:
        """See Node."""
        return f"object {class_name(type(target))}({','.join(names_of(target))})"

    @classmethod
    def detail(cls, target: Any) -> Any:
        """See Node: the name of its class."""
        return class_name(type(target))

    @classmethod
    def make(cls, detail: Any) -> Any:
        """See Node."""
        made = blank(detail)
        if not hasattr(made, "_kagemusha"):
            raise ValueError(f"object {detail} can't be made here; is the class tracked in this program too?")
        return made

    def remember(self, target: Any) -> None:
        """See Node."""
        self._shadow = [getattr(target, name) for name in names_of(target)]

    def scan(self, target: Any) -> None:
        """See Node: by identity."""
        old = self._shadow
        self.remember(target)
        changed = [name for name, differs in zip(names_of(target), map(is_not, old, self._shadow)) if differs]
        if changed:
            self.touch(target)
            self.dirty = dict.fromkeys(changed)

    def take(self, target: Any) -> list[Any] | None:
        """See Node. The operation: number, "put", names, values, patches."""
        dirty, self.dirty, self.clean = self.dirty, {}, True
        if self.whole:
            return self.fill(target)
        replaced, patches = self.looked(lambda name: getattr(target, name), dirty)
        dirty.update(dict.fromkeys(replaced))
        names = [name for name in names_of(target) if name in dirty]
        return self._operation(target, names, patches) if names or patches else None

    def _operation(self, target: Any, names: list[str], patches: list[Any]) -> list[Any]:
        values = [getattr(target, name) for name in names]
        column = self.graph.packer.column(values)
        self.watch_all(names, values, column[0])
        return [self.number, "put", names, column, patches]

    def fill(self, target: Any) -> list[Any]:
        """See Node. The operation is that of take()."""
        self.whole = False
        self.watches = {}
        return self._operation(target, names_of(target), [])

    def apply(self, target: Any, operation: list[Any]) -> None:
        """See Node."""
        _, _, names, values, patches = operation
        known = set(names_of(target))
        for name, value in zip(names, self.graph.unpacker.column(values)):
            if name not in known:
                raise ValueError(f"{type(target).__qualname__} has no field {name}")
            object.__setattr__(target, name, value)
        for name, blocks in patches:
            patch(getattr(target, self.graph.unpacker.one(name)), blocks)


def names_of(target: Any) -> list[str]:
    """Return the names of a dataclass's fields; not to be changed."""
    cls = type(target)
    names = _NAMES.get(cls)
    if names is None:
        names = _NAMES[cls] = [field.name for field in dataclasses.fields(cls)]
    return names
