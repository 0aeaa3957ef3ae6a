"""Strict msgpack of typed, frozen dataclasses: a peer sends a known message with exactly its fields, or is refused.

Nothing from a peer is ever unpickled, evaluated or looked up by name. A message is a map of its fields by name; a field
that is missing takes its default if it has one. Field types: bool, int, float, str, bytes, None, Literal, X | Y,
tuple[X, ...], tuple[X, Y], dict[str, X] and other dataclasses. Pure.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Final, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from transport.errors import FrameError

M = TypeVar("M")

Check = Callable[[object, str], object]
"""Turns an unpacked value into one of its type; the text says where the value stands."""

ITEMS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Form:
    """How one type of message travels. body_bytes_max: limit of its frame's body.

    raw: the message has a single field of bytes, which is the body as it is, without a copy.
    """

    type: type
    body_bytes_max: int
    raw: bool = False


class MessageSet(Generic[M]):
    """The messages of one conversation: their kinds, limits and forms."""

    def __init__(self, forms: Mapping[int, Form]) -> None:
        self._forms = dict(forms)
        self._kinds = {form.type: kind for kind, form in forms.items()}
        self._checks = {kind: _check_of(form.type) for kind, form in forms.items()}

    @property
    def limits(self) -> dict[int, int]:
        """kind -> most bytes of its body, for FrameDecoder."""
        return {kind: form.body_bytes_max for kind, form in self._forms.items()}

    def encode(self, message: M) -> tuple[int, bytes]:
        """Return the kind and the body. Raises ValueError for what is no message of this set or beyond its limit."""
        kind = self._kinds.get(type(message))
        if kind is None:
            raise ValueError(f"{type(message).__name__} is no message of this conversation")
        form = self._forms[kind]
        if form.raw:
            body = cast(bytes, getattr(message, fields(form.type)[0].name))
        else:
            body = msgpack.packb(_plain(message), use_bin_type=True)
        if len(body) > form.body_bytes_max:
            raise ValueError(f"{form.type.__name__} of {len(body)} bytes; at most {form.body_bytes_max}")
        return kind, body

    def decode(self, kind: int, body: bytes) -> M:
        """Return the message. Raises FrameError, naming the message and the field, when it is not exactly one."""
        form = self._forms.get(kind)
        if form is None:
            raise FrameError(f"message kind {kind} is unknown")
        name = form.type.__name__
        if form.raw:
            return cast(M, form.type(body))
        try:
            value = msgpack.unpackb(
                body,
                raw=False,
                use_list=False,
                strict_map_key=True,
                object_pairs_hook=_unique,
                max_array_len=ITEMS_MAX,
                max_map_len=ITEMS_MAX,
                max_ext_len=0,
            )
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise FrameError(f"{name}: not msgpack within its limits: {error}") from None
        return cast(M, self._checks[kind](value, name))


def _unique(pairs: list[tuple[object, object]]) -> dict[object, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a map has a key twice")
    return result


def _plain(value: object) -> object:
    """Return `value` with every dataclass as a map of its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _wrong(where: str, wanted: str, value: object) -> FrameError:
    return FrameError(f"{where}: {wanted} expected, not {type(value).__name__}")


def _check_of(hint: Any) -> Check:
    """Return the check for a type; raises TypeError for one that can't travel (when a message is declared)."""
    origin = get_origin(hint)
    if hint is None or hint is type(None):
        return _check_exact(type(None))
    if hint in (bool, int, str, bytes):
        return _check_exact(hint)
    if hint is float:
        return _check_float
    if origin is Literal:
        return _check_literal(get_args(hint))
    if origin in (Union, types.UnionType):
        return _check_union([_check_of(choice) for choice in get_args(hint)])
    if origin is tuple:
        return _check_tuple(get_args(hint))
    if origin is dict and get_args(hint)[0] is str:
        return _check_dict(_check_of(get_args(hint)[1]))
    if isinstance(hint, type) and is_dataclass(hint):
        return _check_dataclass(hint)
    raise TypeError(f"{hint!r} can't be a field of a message")


def _check_exact(wanted: type) -> Check:
    def check(value: object, where: str) -> object:
        if type(value) is not wanted:
            raise _wrong(where, wanted.__name__, value)
        return value

    return check


def _check_float(value: object, where: str) -> object:
    if type(value) not in (float, int):
        raise _wrong(where, "float", value)
    return float(cast(float, value))


def _check_literal(choices: tuple[object, ...]) -> Check:
    def check(value: object, where: str) -> object:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise FrameError(f"{where}: one of {', '.join(map(repr, choices))} expected")
        return value

    return check


def _check_union(checks: list[Check]) -> Check:
    def check(value: object, where: str) -> object:
        errors: list[str] = []
        for choice in checks:
            try:
                return choice(value, where)
            except FrameError as error:
                errors.append(error.what)
        raise FrameError("; ".join(errors))

    return check


def _check_tuple(arguments: tuple[Any, ...]) -> Check:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        each = _check_of(arguments[0])

        def check_all(value: object, where: str) -> object:
            if not isinstance(value, tuple):
                raise _wrong(where, "a list", value)
            return tuple(each(item, where) for item in value)

        return check_all
    checks = [_check_of(argument) for argument in arguments]

    def check(value: object, where: str) -> object:
        if not isinstance(value, tuple) or len(value) != len(checks):
            raise _wrong(where, f"a list of {len(checks)}", value)
        return tuple(one(item, where) for one, item in zip(checks, value, strict=True))

    return check


def _check_dict(each: Check) -> Check:
    def check(value: object, where: str) -> object:
        if not isinstance(value, dict) or not all(type(key) is str for key in value):
            raise _wrong(where, "a map with names", value)
        return {key: each(item, f"{where}[{key!r}]") for key, item in value.items()}

    return check


def _check_dataclass(wanted: type) -> Check:
    hints = get_type_hints(wanted)
    checks = {field.name: _check_of(hints[field.name]) for field in fields(wanted)}
    needed = {field.name for field in fields(wanted) if field.default is MISSING and field.default_factory is MISSING}

    def check(value: object, where: str) -> object:
        if not isinstance(value, dict):
            raise _wrong(where, f"a map with the fields of {wanted.__name__}", value)
        for name in value:
            if name not in checks:
                raise FrameError(f"{where}: unknown field {name!r}")
        missing = needed - value.keys()
        if missing:
            raise FrameError(f"{where}: field {min(missing)!r} is missing")
        given = {name: checks[name](item, f"{where}.{name}") for name, item in value.items()}
        try:
            return wanted(**given)
        except ValueError as error:
            raise FrameError(f"{where}: {error}") from None

    return check
