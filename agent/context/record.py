"""How a room's record becomes bytes: msgpack of the fields of a frozen dataclass, in their order.

Records are compared as bytes, so equal values must give equal bytes: fields are ints, bools, strings, bytes, None and
tuples of these, also nested, never sets or dicts. What comes back is checked against the dataclass's annotations, down
to the outermost type of each field.
"""

from __future__ import annotations

import types
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from agent.errors import RestoreError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


def pack(record: DataclassInstance) -> bytes:
    """The bytes of a record."""
    values = [getattr(record, name) for name in _names(type(record))]
    packed: bytes = msgpack.packb(values, use_bin_type=True)
    return packed


def unpack(kind: type[R], data: bytes, key: str = "") -> R:
    """The record of type `kind` that `data` holds; `key` names it in the error. Raises RestoreError when it is none."""
    try:
        values = msgpack.unpackb(data, raw=False, use_list=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise RestoreError(f"record {key or kind.__name__} is no msgpack: {error}") from error
    expected = _types(kind)
    if not isinstance(values, tuple) or len(values) != len(expected):
        raise RestoreError(f"record {key or kind.__name__} does not have the {len(expected)} fields of {kind.__name__}")
    for name, value, allowed in zip(_names(kind), values, expected, strict=True):
        if type(value) not in allowed:
            raise RestoreError(f"record {key or kind.__name__}: {name} is a {type(value).__name__}")
    return kind(*values)


@cache
def _names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _types(kind: type[DataclassInstance]) -> tuple[tuple[type, ...], ...]:
    hints = get_type_hints(kind)
    return tuple(_outermost(hints[name]) for name in _names(kind))


def _outermost(annotation: Any) -> tuple[type, ...]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _outermost(part))
    if origin is not None and not isinstance(origin, type):  # Literal
        return tuple({type(value) for value in get_args(annotation)})
    return (origin or annotation,)
