"""The reference of program.toml, written from the model itself: it can't say anything else than the code does."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agent.program import Definition

_HEAD = """\
# program.toml

<!-- Written by `kagemusha config reference`; change the model in agent/program.py instead. -->

One file defines one program, the same file on every node. Run as root, the file must belong to root and be writable by
nobody else: it says what root starts. Unknown keys are refused. `kagemusha config check FILE` names every mistake,
`kagemusha preflight FILE` says whether this node can run and mirror the program.

```toml
[program]
id = "redis"
command = ["/usr/bin/redis-server", "--port", "6379", "--save", ""]
user = "redis"

[mirror]
interval_ms = 50

[[files]]
path = "/var/log/redis/*"
rule = "local"

[[health]]
kind = "exchange"
port = 6379
send = "PING\\r\\n"
expect = "+PONG"

[redirect]
driver = "address"
address = "10.0.0.100/24"
interface = "eth0"
```
"""

_TYPE_NAMES: dict[Any, str] = {str: "string", int: "whole number", bool: "true or false", float: "number"}


def reference_markdown() -> str:
    """The whole document."""
    return "\n".join([_HEAD, *(_section(name, field) for name, field in Definition.model_fields.items())])


def _section(name: str, field: FieldInfo) -> str:
    model = _model(field.annotation)
    repeated = _is_repeated(field.annotation)
    title = f"[[{name}]]" if repeated else f"[{name}]"
    need = "Required." if field.is_required() else "Any number of times." if repeated else "May be left out."
    lines = [
        f"## `{title}`",
        "",
        f"{_summary(model)} {need}",
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [_row(key, value) for key, value in model.model_fields.items()]
    return "\n".join(lines) + "\n"


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _row(key: str, field: FieldInfo) -> str:
    described = _type(field.annotation, list(_constraints(field)))
    meaning = (field.description or "").replace("|", "\\|")
    return f"| `{key}` | {described} | {_default(field)} | {meaning} |"


def _constraints(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for part in get_args(field.annotation):
        if get_origin(part) is Annotated:
            for extra in get_args(part)[1:]:
                yield from extra.metadata if isinstance(extra, FieldInfo) else [extra]


def _type(annotation: Any, constraints: list[Any]) -> str:
    low: Any = next((one.ge for one in constraints if isinstance(one, Ge)), None)
    high: Any = next((one.le for one in constraints if isinstance(one, Le)), None)
    plain = _plain(annotation)
    if low is None and high is None:
        return plain + (", not empty" if any(isinstance(one, MinLen) for one in constraints) else "")
    return f"{plain}, {low} or more" if high is None or high >= 2**40 else f"{plain}, {low} to {high}"


def _plain(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _TYPE_NAMES:
        return _TYPE_NAMES[annotation]
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_plain(one) for one in arguments if one is not type(None))
    if origin is Annotated:
        return _plain(arguments[0])
    if origin is tuple:
        return f"list of {_plain(arguments[0])}s"
    if origin is dict:
        return "table of strings"
    raise TypeError(f"the reference has no words for {annotation!r}")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return "not set"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "empty" if value in ({}, ()) else f"`{value}`"


def _model(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if argument not in (type(None), Ellipsis):
            return _model(argument)
    raise TypeError(f"no section in {annotation!r}")


def _is_repeated(annotation: Any) -> bool:
    return get_origin(annotation) is tuple
