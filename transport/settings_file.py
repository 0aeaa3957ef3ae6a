"""A settings file in TOML from the disk to its model, and every mistake in it to one line that a person can act on."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from transport.errors import ConfigError
from transport.trust import other_writer

FILE_BYTES_MAX: Final = 1 << 20

Location = tuple[int | str, ...]
Model = TypeVar("Model", bound=BaseModel)


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


@dataclass(frozen=True, slots=True)
class SettingsFile(Generic[Model]):
    """A kind of file. name: what a person calls it ("a NAME.toml"); where: has some, for who has none yet; reference:
    the hint where all keys are described; check: the command that lists all mistakes of a file, or ""."""

    model: type[Model]
    name: str
    where: str
    reference: str
    check: str = ""

    def load(self, path: str | os.PathLike[str]) -> Model:
        """The values in the file at `path`.

        Raises ConfigError with the first mistake; `mistakes_in` finds all of them.
        """
        found = self._read(os.fspath(path))
        if not isinstance(found, list):
            return found
        first = found[0]
        how = f": {self.check} {first.path}" if self.check else ""
        more = f" ({len(found) - 1} more{how})" if len(found) > 1 else ""
        raise ConfigError(str(first), hint=first.hint + more)

    def mistakes_in(self, path: str | os.PathLike[str]) -> list[Mistake]:
        """All mistakes of the file at `path`; empty where it can be used."""
        found = self._read(os.fspath(path))
        return found if isinstance(found, list) else []

    def _read(self, path: str) -> Model | list[Mistake]:
        try:
            text = _trusted_text(path, self.name, self.where)
            values = tomllib.loads(text)
        except ConfigError as error:
            return [Mistake(path, "", error.what, error.hint)]
        except tomllib.TOMLDecodeError as error:
            hint = "strings need quotes; sections look like [mirror]"
            return [Mistake(path, "", f"not TOML: {_one_line(str(error))}", hint)]
        try:
            return self.model.model_validate(values)
        except ValidationError as error:
            explainer = _Explainer(self.model, self.reference)
            return [explainer.mistake(path, details) for details in error.errors(include_url=False)]


def _trusted_text(path: str, name: str, where: str) -> str:
    """The file's text. Run as root, the file says what root starts: nobody else may be able to write it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ConfigError("does not exist", hint=f"give the path of {name}; {where}") from error
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", hint="check the path and its permissions") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError("is not a regular file", hint=f"give the path of {name}")
        if os.geteuid() == 0:
            _require_root_only(path, status)
        content = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"is longer than {FILE_BYTES_MAX} bytes", hint=f"give the path of {name}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"not TOML: byte {error.start} is not UTF-8", hint="save the file as UTF-8") from error


def _require_root_only(path: str, status: os.stat_result) -> None:
    writer = other_writer(status)
    if writer == "its owner":
        raise ConfigError(
            f"belongs to the user with the number {status.st_uid}, who could make root start anything",
            hint=f"chown root {path}",
        )
    if writer:
        raise ConfigError(
            f"can be written by {writer}, who could make root start anything",
            hint=f"chmod go-w {path}",
        )


class _Explainer:
    """Says what one of pydantic's findings means to a person.

    model: of the whole file; reference: the hint where there is no better one.
    """

    def __init__(self, model: type[BaseModel], reference: str) -> None:
        self._model = model
        self._reference = reference

    def mistake(self, path: str, details: ErrorDetails) -> Mistake:
        """What a person is told of one finding."""
        location = details["loc"]
        key = _dotted(location)
        what, hint = self._explain(location, details)
        return Mistake(path, key, _one_line(what), hint)

    def _explain(self, location: Location, details: ErrorDetails) -> tuple[str, str]:
        """What is wrong and what to do, for one of pydantic's findings."""
        context = details.get("ctx", {})
        value = details["input"]
        match details["type"]:
            case "extra_forbidden":
                return "unknown key", self._nearest(location)
            case "missing":
                return "missing", f"add it; {self._reference}"
            case "value_error":
                return str(context["error"]), getattr(context["error"], "hint", self._reference)
            case "literal_error":
                expected = context["expected"].replace("'", '"')
                return f"must be {expected}, not {_shown(value)}", self._nearest_choice(value, expected)
            case "int_type" | "int_from_float":
                return f"must be a whole number, not {_shown(value)}", self._unit_hint(location)
            case "string_type":
                return f"must be a string in quotes, not {_shown(value)}", self._reference
            case "tuple_type":
                return f"must be a list, not {_shown(value)}", self._list_hint(location)
            case "dict_type" | "model_type" | "model_attributes_type":
                return (
                    f"must be a table, not {_shown(value)}",
                    f"write it as [{_dotted(location)}] with keys of its own",
                )
            case "too_short":
                return "must not be empty", self._reference
            case "too_long":
                return f"has {context['actual_length']} entries, at most {context['max_length']}", self._reference
            case "greater_than_equal":
                return f"must be at least {context['ge']}, not {_shown(value)}", self._unit_hint(location)
            case "less_than_equal":
                return f"must be at most {context['le']}, not {_shown(value)}", self._unit_hint(location)
            case "string_pattern_mismatch":
                return f"{_shown(value)} does not match {context['pattern']}", self._description(location)
            case _:
                return f"{details['msg']}, not {_shown(value)}", self._reference

    def _nearest(self, location: Location) -> str:
        """The key that was probably meant; or the section where this key belongs."""
        key = str(location[-1])
        here = self._section_at(location[:-1])
        close = difflib.get_close_matches(key, list(here.model_fields) if here else [], n=1, cutoff=0.6)
        if close:
            return f"did you mean {close[0]}?"
        homes = [name for name, section in self._sections() if key in section.model_fields]
        if homes:
            return f"{key} belongs to {' or '.join(f'[{home}]' for home in homes)}"
        return self._reference

    def _nearest_choice(self, value: object, expected: str) -> str:
        choices = [choice.strip('"') for choice in expected.replace(" or ", ", ").split(", ")]
        close = difflib.get_close_matches(value, choices, n=1, cutoff=0.6) if isinstance(value, str) else []
        return f'did you mean "{close[0]}"?' if close else self._reference

    def _description(self, location: Location) -> str:
        section = self._section_at(location[:-1])
        field = section.model_fields.get(str(location[-1])) if section else None
        return (field.description if field else None) or self._reference

    def _unit_hint(self, location: Location) -> str:
        units = {"ms": "milliseconds", "s": "seconds", "bytes": "bytes", "mib": "MiB (1,048,576 bytes)"}
        for step in reversed(location):
            for word in reversed(str(step).split("_")):
                if word in units:
                    return f"a number of {units[word]}, without quotes or unit"
        return self._reference

    def _list_hint(self, location: Location) -> str:
        element = self._section_at(location)
        if element is not None:
            needed = [name for name, field in element.model_fields.items() if field.is_required()]
            return f"write one [[{location[-1]}]] with {' and '.join(needed)} for each of them"
        return f'{location[-1]} = ["first", "second"]'

    def _sections(self) -> Iterator[tuple[str, type[BaseModel]]]:
        for name, field in self._model.model_fields.items():
            section = _model_in(field.annotation)
            if section is not None:
                yield name, section

    def _section_at(self, location: Location) -> type[BaseModel] | None:
        section: type[BaseModel] | None = self._model
        for step in location:
            if isinstance(step, str):
                field = section.model_fields.get(step) if section else None
                section = _model_in(field.annotation) if field else None
        return section


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


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None`, `tuple[Model, ...]` or `Annotated[...]` of these."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple):
        return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)
    return None
