"""Mutations that hypothesis chooses, carried out on a structure; and an image of a structure that can be compared.

The image knows nothing of the code that it judges: it walks plain values and tells types, order, and which containers
are the same one.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import hypothesis.strategies as st
import numpy as np

from kagemusha.structures.deques import Deque
from kagemusha.structures.dicts import Dict
from kagemusha.structures.lists import List
from kagemusha.structures.objects import tracked_class
from kagemusha.structures.sets import Set


@tracked_class
@dataclasses.dataclass(eq=False)
class Account:
    """Tracked: reports what is assigned."""

    owner: Any = None
    balance: Any = 0


@dataclasses.dataclass
class Note:
    """Not tracked: compared."""

    text: Any = ""


Step = tuple[str, int, int, int]
STEPS = (
    *(
        "put",
        "put",
        "delete",
        "append",
        "insert",
        "pop",
        "popleft",
        "set",
        "slice",
        "cut",
        "reorder",
        "clear",
        "update",
    ),
    *("wiggle", "wiggle", "move", "rotate"),
)
steps = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 99), st.integers(0, 12), st.integers(0, 40)), max_size=8
)

ROOTS: dict[str, Any] = {
    "Dict": Dict,
    "dict": dict,
    "List": List,
    "list": list,
    "Deque": Deque,
    "short Deque": lambda: Deque((), 4),
    "deque": deque,
    "Set": Set,
    "set": set,
    "Account": Account,
    "Note": Note,
    "bytearray": lambda: bytearray(9000),
    "array": lambda: np.zeros((30, 50), "<i8"),
}


def value(seed: int) -> Any:
    """Return one of all kinds of values, new containers among them."""
    small = seed // 20
    kinds: list[Any] = [
        *(None, True, seed, -(2**70) - seed, 0.5 * seed, float("inf"), f"text {seed}", b"bytes", "\ud800"),
        *((small, "row"), (small, [small]), frozenset({small, "x"}), [small, {"k": [small]}], {small: {1, small}}),
        *(deque([small], 7), bytearray(b"b" * 5000), np.arange(700 + small), np.float32(small)),
        *(
            Note([small]),
            Dict({small: [small]}),
            List([small, [small]]),
            Deque([small], 5),
            Set({small}),
            Account(small),
        ),
    ]
    return kinds[seed % len(kinds)]


def containers(root: Any) -> list[Any]:
    """Return all containers that can be changed, the root first."""
    found: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        item = waiting.pop(0)
        if id(item) in found:
            continue
        if isinstance(item, (dict, list, deque, set, bytearray, np.ndarray, Account, Note)):
            found[id(item)] = item
        waiting += _inside(item)
    return list(found.values())


def _inside(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, (list, tuple, deque)):
        return list(item)
    return list(vars(item).values())[:2] if isinstance(item, (Account, Note)) else []


def perform(root: Any, step: Step) -> None:
    """Do one step on one of the containers, if it can be done there."""
    what, which, place, seed = step
    everything = containers(root)
    target = everything[which % len(everything)]
    other = value(seed)
    if what == "move":
        candidates = [item for item in everything if hasattr(item, "_kagemusha")]
        other = candidates[seed % len(candidates)] if candidates and hasattr(target, "_kagemusha") else other
        what = "put"
    if isinstance(target, (dict, Account, Note)):
        _on_keys(target, what, place, other)
    elif isinstance(target, (list, deque)):
        _on_items(target, what, place, other)
    elif isinstance(target, set):
        _on_elements(target, what, place)
    elif what == "wiggle" and len(target):
        if isinstance(target, bytearray):
            target[place * 400 % len(target)] = seed
        else:
            target.reshape(-1)[place * 31 % target.size] = seed


def _on_keys(target: Any, what: str, place: int, other: Any) -> None:
    if not isinstance(target, dict):
        fields = [field.name for field in dataclasses.fields(target)]
        setattr(target, fields[place % len(fields)], other)
    elif what == "delete" or what == "pop":
        target.pop(place % 4, None)
    elif what == "popleft" and target:
        target.popitem()
    elif what == "clear":
        target.clear()
    elif what == "update":
        target.update({place % 4: other, "u": 1})
    elif what == "reorder" and target:
        first = next(iter(target))
        target[first] = target.pop(first)
    elif what == "insert":
        target.setdefault(place % 4, other)
    elif what == "slice":
        target |= {(place % 3, "key"): other}
    else:
        target[place % 4] = other


def _on_items(target: Any, what: str, place: int, other: Any) -> None:
    at = place % (len(target) or 1)
    if what == "append" or not target:
        target.append(other)
    elif what == "insert" and (not isinstance(target, deque) or target.maxlen is None):
        target.insert(at, other)
    elif what == "pop":
        target.pop()
    elif what == "popleft":
        _ = target.popleft() if isinstance(target, deque) else target.pop(0)
    elif what == "delete":
        del target[at - len(target) if place % 2 else at]
    elif what == "clear":
        target.clear()
    elif what == "update":
        target += [other, place]
    elif what == "reorder":
        target.reverse()
    elif what == "slice" and isinstance(target, list):
        target[at : at + place % 3] = [other] * (place % 4)
    elif what == "cut" and isinstance(target, list):
        del target[at :: 1 + place % 2]
    elif what == "rotate" and isinstance(target, deque):
        target.rotate(place)
    elif what == "rotate" and isinstance(target, deque):
        target.appendleft(other)
    else:
        target[at] = other


def _on_elements(target: set[Any], what: str, place: int) -> None:
    if what in {"delete", "pop"}:
        target.discard(place)
    elif what == "clear":
        target.clear()
    elif what == "update":
        target |= {place, (place, "x")}
    elif what == "reorder":
        target ^= {place, 1}
    elif what == "cut":
        target -= {place, 2}
    elif what == "slice":
        target &= set(range(place))
    else:
        target.add(place)


def image(root: Any) -> Any:
    """Return a value that is equal for structures that are the same in everything that is promised to be."""
    return _image(root, {})


def _image(item: Any, seen: dict[int, int]) -> Any:
    if hasattr(item, "_kagemusha"):
        if id(item) in seen:
            return ("again", seen[id(item)])
        seen[id(item)] = len(seen)
    kind = type(item).__name__
    if isinstance(item, dict):
        return (kind, [(_image(key, seen), _image(inner, seen)) for key, inner in item.items()])
    if isinstance(item, (set, frozenset)):
        return (kind, sorted(repr(element) for element in item))
    if isinstance(item, deque):
        return (kind, item.maxlen, [_image(inner, seen) for inner in item])
    if isinstance(item, (list, tuple)):
        return (kind, [_image(inner, seen) for inner in item])
    if isinstance(item, (Account, Note)):
        return (kind, [_image(getattr(item, field.name), seen) for field in dataclasses.fields(item)])
    if isinstance(item, np.ndarray):
        return (kind, str(item.dtype), item.shape, item.tobytes())
    return (kind, repr(item))
