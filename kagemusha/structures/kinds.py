"""The kinds of containers that can be mirrored in place: which node goes with which container."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

from kagemusha.structures.cells import CellNode
from kagemusha.structures.deques import DequeNode
from kagemusha.structures.dicts import DictNode
from kagemusha.structures.errors import NotEncodable
from kagemusha.structures.lists import ListNode
from kagemusha.structures.node import Node
from kagemusha.structures.objects import ObjectNode
from kagemusha.structures.sets import SetNode
from kagemusha.structures.values import is_array

_BY_CLASS: tuple[tuple[type, type[Node]], ...] = (
    (dict, DictNode),
    (list, ListNode),
    (set, SetNode),
    (deque, DequeNode),
    (bytearray, CellNode),
)
_BY_NAME: dict[str, type[Node]] = {
    node.kind: node for node in (DictNode, ListNode, SetNode, DequeNode, CellNode, ObjectNode)
}


def kind_of(value: Any) -> type[Node]:
    """Return the node for a container; raises NotEncodable for a value that can't be mirrored in place."""
    for cls, node in _BY_CLASS:
        if isinstance(value, cls):
            return node
    if is_array(value):
        if not value.flags.c_contiguous or value.dtype.hasobject:
            raise NotEncodable("an array that is not contiguous, or holds objects", hint="numpy.ascontiguousarray")
        return CellNode
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ObjectNode
    raise NotEncodable(
        f"a {type(value).__qualname__} can't be mirrored: it can't be changed in place",
        hint="a dict, list, deque, set, dataclass, numpy array or bytearray",
    )


def kind_named(name: str) -> type[Node]:
    """Return the node of that kind; raises ValueError when there is none."""
    kind = _BY_NAME.get(name)
    if kind is None:
        raise ValueError(f"there is no kind of containers with the name {name}")
    return kind


def layout(value: Any) -> str:
    """Return what must be equal on both sides: the text of which a type hash is made. Raises as kind_of() does."""
    return kind_of(value).layout(value)
