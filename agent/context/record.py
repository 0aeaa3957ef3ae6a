"""How a room's record becomes bytes: msgpack of the fields of a frozen dataclass, in their order.

Records are compared as bytes, so equal values must give equal bytes: fields are ints, bools, strings, bytes, None and
tuples of these, also nested, never sets or dicts. Paths are bytes to the kernel, so text may hold what is no UTF-8.
What comes back is checked against the dataclass's annotations, all the way down.
"""

from __future__ import annotations

import types
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from agent.errors import RestoreError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
_TEXT_ERRORS = "surrogateescape"


def pack(record: DataclassInstance) -> bytes:
    """The bytes of a record."""
    values = [getattr(record, name) for name in _names(type(record))]
    packed: bytes = msgpack.packb(values, use_bin_type=True, unicode_errors=_TEXT_ERRORS)
    return packed


def unpack(kind: type[R], data: bytes, key: str = "") -> R:
    """The record of type `kind` that `data` holds; `key` names it in the error. Raises RestoreError when it is none."""
    try:
        values = msgpack.unpackb(data, use_list=False, strict_map_key=True, unicode_errors=_TEXT_ERRORS)
    except (ValueError, msgpack.UnpackException) as error:
        raise RestoreError(f"record {key or kind.__name__} is no msgpack: {error}") from error
    expected = _hints(kind)
    if not isinstance(values, tuple) or len(values) != len(expected):
        raise RestoreError(f"record {key or kind.__name__} does not have the {len(expected)} fields of {kind.__name__}")
    for name, value, hint in zip(_names(kind), values, expected, strict=True):
        if not _fits(value, hint):
            raise RestoreError(f"record {key or kind.__name__}: {name} is no {hint}: {value!r:.80}")
    return kind(*values)


@cache
def _names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _hints(kind: type[DataclassInstance]) -> tuple[Any, ...]:
    hints = get_type_hints(kind)
    return tuple(hints[name] for name in _names(kind))


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is None:
        return type(value) is hint
    inner = get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if type(value) is not tuple or origin is not tuple:
        return False
    if len(inner) == 2 and inner[1] is Ellipsis:
        return all(_fits(item, inner[0]) for item in value)
    return len(value) == len(inner) and all(map(_fits, value, inner))
