"""Where in a structure a value lies that can't be encoded. It is looked for only after the packer has refused."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

from kagemusha.structures.errors import NotEncodable
from kagemusha.structures.objects import names_of
from kagemusha.structures.values import Packer, Types


def refused_place(root: Any, types: Types) -> tuple[str, NotEncodable] | None:
    """Return the innermost place of such a value under `root`, and why it is one; None if there is none."""
    return _refused(root, "", Packer(types, lambda _: None), set())


def _refused(value: Any, place: str, packer: Packer, seen: set[int]) -> tuple[str, NotEncodable] | None:
    if id(value) in seen:
        return None if hasattr(value, "_kagemusha") else (place, NotEncodable("a value that contains itself"))
    try:
        packer.one(value)
        return None
    except NotEncodable as error:
        reason = error
    seen = seen | {id(value)}
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inner = [(f"{place}[{key!r}]", item) for key, item in value.items()]
        inner += [(f"{place} key {key!r}", key) for key in value]
    elif isinstance(value, (list, tuple, deque)):
        inner = [(f"{place}[{at}]", item) for at, item in enumerate(value)]
    elif isinstance(value, (set, frozenset)):
        inner = [(f"{place}{{{item!r}}}", item) for item in value]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [(f"{place}.{name}", getattr(value, name)) for name in names_of(value)]
    for where, item in inner:
        found = _refused(item, where, packer, seen)
        if found is not None:
            return found
    return place, reason
