"""NAME.toml from the disk to a `Definition`, and every mistake in it to one line that a person can act on."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.program import Definition
from transport.errors import ConfigError

FILE_BYTES_MAX = 1 << 20
REFERENCE_HINT = "`kagemusha config reference` lists every key with its type and default"

Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a file. key: `section.key`, or "" for the file as a whole."""

    path: str
    key: str
    what: str
    hint: str

    def __str__(self) -> str:
        """`FILE: key: what is wrong`, in one line."""
        return ": ".join(part for part in (self.path, self.key, self.what) if part)


def load_definition(path: str | os.PathLike[str]) -> Definition:
    """The definition in the file at `path`.

    Raises ConfigError with the first mistake; `mistakes_in` finds all of them.
    """
    found = _read(os.fspath(path))
    if isinstance(found, Definition):
        return found
    first = found[0]
    more = f" ({len(found) - 1} more: kagemusha config check {first.path})" if len(found) > 1 else ""
    raise ConfigError(str(first), hint=first.hint + more)


def mistakes_in(path: str | os.PathLike[str]) -> list[Mistake]:
    """All mistakes of the file at `path`; empty where it can be used."""
    found = _read(os.fspath(path))
    return [] if isinstance(found, Definition) else found


def _read(path: str) -> Definition | list[Mistake]:
    try:
        text = _trusted_text(path)
        values = tomllib.loads(text)
    except ConfigError as error:
        return [Mistake(path, "", error.what, error.hint)]
    except tomllib.TOMLDecodeError as error:
        return [
            Mistake(path, "", f"not TOML: {_one_line(str(error))}", "strings need quotes; sections look like [mirror]")
        ]
    try:
        return Definition.model_validate(values)
    except ValidationError as error:
        return [_mistake(path, details) for details in error.errors(include_url=False)]


def _trusted_text(path: str) -> str:
    """The file's text. Run as root, the file says what root starts: nobody else may be able to write it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ConfigError("does not exist", hint="give the path of a NAME.toml; examples/ has some") from error
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", hint="check the path and its permissions") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError("is not a regular file", hint="give the path of a NAME.toml")
        if os.geteuid() == 0:
            _require_root_only(path, status)
        content = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"is longer than {FILE_BYTES_MAX} bytes", hint="give the path of a NAME.toml")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"not TOML: byte {error.start} is not UTF-8", hint="save the file as UTF-8") from error


def _require_root_only(path: str, status: os.stat_result) -> None:
    if status.st_uid != 0:
        raise ConfigError(
            f"belongs to the user with the number {status.st_uid}, who could make root start anything",
            hint=f"chown root {path}",
        )
    others = status.st_mode & stat.S_IWOTH
    group = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    if others or group:
        raise ConfigError(
            f"can be written by {'everybody' if others else 'its group'}, who could make root start anything",
            hint=f"chmod go-w {path}",
        )


def _mistake(path: str, details: ErrorDetails) -> Mistake:
    location = details["loc"]
    key = _dotted(location)
    what, hint = _explain(location, details)
    return Mistake(path, key, _one_line(what), hint)


def _explain(location: Location, details: ErrorDetails) -> tuple[str, str]:
    """What is wrong and what to do, for one of pydantic's findings."""
    context = details.get("ctx", {})
    value = details["input"]
    match details["type"]:
        case "extra_forbidden":
            return "unknown key", _nearest(location)
        case "missing":
            return "missing", f"add it; {REFERENCE_HINT}"
        case "value_error":
            return str(context["error"]), getattr(context["error"], "hint", REFERENCE_HINT)
        case "literal_error":
            expected = context["expected"].replace("'", '"')
            return f"must be {expected}, not {_shown(value)}", _nearest_choice(value, expected)
        case "int_type" | "int_from_float":
            return f"must be a whole number, not {_shown(value)}", _unit_hint(location)
        case "string_type":
            return f"must be a string in quotes, not {_shown(value)}", REFERENCE_HINT
        case "tuple_type":
            return f"must be a list, not {_shown(value)}", _list_hint(location)
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"must be a table, not {_shown(value)}", f"write it as [{_dotted(location)}] with keys of its own"
        case "too_short":
            return "must not be empty", REFERENCE_HINT
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {_shown(value)}", _unit_hint(location)
        case "less_than_equal":
            return f"must be at most {context['le']}, not {_shown(value)}", _unit_hint(location)
        case "string_pattern_mismatch":
            return f"{_shown(value)} does not match {context['pattern']}", _description(location)
        case _:
            return f"{details['msg']}, not {_shown(value)}", REFERENCE_HINT


def _dotted(location: Location) -> str:
    """("files", 1, "rule") -> "files[1].rule", counted from 1 as a person counts."""
    text = ""
    for step in location:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            text = f'"{value}"'
        case list():
            text = "a list"
        case dict():
            text = "a table"
        case _:
            text = str(value)
    return text if len(text) <= 80 else text[:76] + '..."'


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _nearest(location: Location) -> str:
    """The key that was probably meant; or the section where this key belongs."""
    key = str(location[-1])
    here = _section_at(location[:-1])
    close = difflib.get_close_matches(key, list(here.model_fields) if here else [], n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    homes = [name for name, section in _sections() if key in section.model_fields]
    if homes:
        return f"{key} belongs to {' or '.join(f'[{home}]' for home in homes)}"
    return REFERENCE_HINT


def _nearest_choice(value: object, expected: str) -> str:
    choices = [choice.strip('"') for choice in expected.replace(" or ", ", ").split(", ")]
    close = difflib.get_close_matches(value, choices, n=1, cutoff=0.6) if isinstance(value, str) else []
    return f'did you mean "{close[0]}"?' if close else REFERENCE_HINT


def _description(location: Location) -> str:
    section = _section_at(location[:-1])
    field = section.model_fields.get(str(location[-1])) if section else None
    return (field.description if field else None) or REFERENCE_HINT


def _unit_hint(location: Location) -> str:
    units = {"ms": "milliseconds", "s": "seconds", "bytes": "bytes", "mib": "MiB (1,048,576 bytes)"}
    for step in reversed(location):
        for word in reversed(str(step).split("_")):
            if word in units:
                return f"a number of {units[word]}, without quotes or unit"
    return REFERENCE_HINT


def _list_hint(location: Location) -> str:
    if location == ("files",):
        return "write one [[files]] with path and rule for each rule"
    return f'{location[-1]} = ["first", "second"]'


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Definition.model_fields.items():
        section = _model_in(field.annotation)
        if section is not None:
            yield name, section


def _section_at(location: Location) -> type[BaseModel] | None:
    section: type[BaseModel] | None = Definition
    for step in location:
        if isinstance(step, str):
            field = section.model_fields.get(step) if section else None
            section = _model_in(field.annotation) if field else None
    return section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None`, `tuple[Model, ...]` or `Annotated[...]` of these."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple):
        return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)
    return None
