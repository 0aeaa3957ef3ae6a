"""How a room's record becomes bytes: msgpack of the fields of a frozen dataclass, in their order.

Records are compared as bytes, so equal values must give equal bytes: fields are ints, bools, strings, bytes, None and
tuples of these, also nested, never sets or dicts. Paths are bytes to the kernel, so text may hold what is no UTF-8.
What comes back is checked against the dataclass's annotations, all the way down.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import fields
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from agent.errors import RestoreError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
_TEXT_ERRORS = "surrogateescape"

_REMEMBERED_BYTES_MAX = 1024

Check = Callable[[object], bool]


def pack(record: DataclassInstance) -> bytes:
    """The bytes of a record."""
    values = [getattr(record, name) for name in _names(type(record))]
    packed: bytes = msgpack.packb(values, use_bin_type=True, unicode_errors=_TEXT_ERRORS)
    return packed


def unpack(kind: type[R], data: bytes, key: str = "") -> R:
    """The record of type `kind` that `data` holds; `key` names it in the error. Raises RestoreError when it is none.

    Small ones are remembered: the same bytes are read at every checkpoint, and once more in the takeover.
    """
    try:
        if len(data) <= _REMEMBERED_BYTES_MAX:
            return cast(R, _remembered(kind, data))
        return _unpack(kind, data)
    except RestoreError as error:
        raise RestoreError(f"record {key or kind.__name__}: {error}") from error.__cause__


def _unpack(kind: type[R], data: bytes) -> R:
    try:
        values = msgpack.unpackb(data, use_list=False, strict_map_key=True, unicode_errors=_TEXT_ERRORS)
    except (ValueError, msgpack.UnpackException) as error:
        raise RestoreError(f"no msgpack: {error}") from error
    checks = _checks(kind)
    if not isinstance(values, tuple) or len(values) != len(checks):
        raise RestoreError(f"does not have the {len(checks)} fields of {kind.__name__}")
    if not all(map(_passes, checks, values)):
        name, value = next(
            (name, value) for name, value, check in zip(_names(kind), values, checks, strict=True) if not check(value)
        )
        raise RestoreError(f"{name} can't be {value!r:.80}")
    return kind(*values)


@lru_cache(maxsize=8192)
def _remembered(kind: type[DataclassInstance], data: bytes) -> object:
    return _unpack(kind, data)


@cache
def _names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _checks(kind: type[DataclassInstance]) -> tuple[Check, ...]:
    hints = get_type_hints(kind)
    return tuple(_check_of(hints[name]) for name in _names(kind))


def _check_of(hint: Any) -> Check:
    """A function that says whether a value is of type `hint`; made once, for records are read in every takeover."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is None:
        return lambda value: type(value) is hint
    if origin is Literal:
        return lambda value: value in inner
    if origin in (Union, types.UnionType):
        any_of = tuple(map(_check_of, inner))
        return lambda value: any(check(value) for check in any_of)
    if origin is not tuple:
        raise TypeError(f"a record can't have a field of type {hint}")
    if len(inner) == 2 and inner[1] is Ellipsis:
        each = _check_of(inner[0])
        return lambda value: type(value) is tuple and all(map(each, value))
    all_of = tuple(map(_check_of, inner))
    return lambda value: type(value) is tuple and len(value) == len(all_of) and all(map(_passes, all_of, value))


def _passes(check: Check, value: object) -> bool:
    return check(value)
