"""One `[[structures]]` table of a program.toml: which data structure is mirrored, and how. Values only.

Every field's description is the text of the generated reference, so it is written for operators.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from agent.errors import StructureError
from transport.settings import Misfit, Section

_NAME: Final = r"[a-z0-9][a-z0-9_.-]{0,62}"
_PYTHON: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_MIB: Final = 1 << 20


class StructureTable(Section):
    """A data structure that is mirrored by its name: a variable of a native program, a file, or an object of a Python
    program. Each has exactly one of `symbol`, `file` and `python`. With `mode = "structures"` that is what is mirrored.
    With `mode = "process"` they are parts of the whole that `kagemusha structures` shows by their names; with
    `interval_ms` they are read more often than the whole, and with `independent` a takeover goes on from what was read.
    `python` is refused then."""

    name: Annotated[str, Field(pattern=rf"^{_NAME}$")] | None = Field(
        default=None,
        description="What it is called, the same on every node: `a-z`, `0-9`, `_`, `.`, `-`. Not set: the last part of "
        "its symbol, file name or Python path, in lower case.",
    )
    symbol: str | None = Field(
        default=None,
        description="A global or static variable of the program, as in its source: `g_sessions`, `exchange::book`. One "
        "of several static ones with its unit: `book.c:entries`.",
    )
    library: str | None = Field(
        default=None,
        description="The shared library that defines the symbol, by file name without its version or by absolute path. "
        "Not set: the executable.",
    )
    file: str | None = Field(
        default=None,
        description="Absolute path of a file that the program has mapped: shared memory in `/dev/shm`, say. It has its "
        "full size from the start on.",
    )
    python: str | None = Field(
        default=None,
        description="Module and object of a Python program that uses `kagemusha.structures`: `engine:BOOK`.",
    )
    exclude: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Members that every instance keeps for itself, since they mean something in its own process only: "
        "locks, pointers. `g_sessions.entries.lock` is that of all entries.",
    )
    consistency: Literal["stop", "none"] = Field(
        default="stop",
        description="`stop`: the program stands still for a moment, and what is mirrored is of one instant. `none`: it "
        "runs on, and what it writes meanwhile may arrive in part.",
    )
    interval_ms: Annotated[int, Field(ge=5, le=60_000)] | None = Field(
        default=None,
        description='Time from one update to the next. Not set: that of `[mirror]`. With `mode = "process"` it is '
        "shorter than that one: the structure is read so often between checkpoints, too; of at most 8 MiB.",
    )
    independent: bool = Field(
        default=False,
        description='For `mode = "process"`, with `interval_ms`: a takeover after the loss of the node goes on from '
        "the structure as it was read last, while the rest of the memory is of the last checkpoint. Only for data that "
        "means something without anything else: [when it is wrong](structures.md#more-often-than-the-whole). Pointers "
        "and locks are refused unless they are excluded. Without it what is read in between is only shown.",
    )
    size_mib_max: int = Field(
        default=1024,
        ge=1,
        le=65536,
        description="A structure that is larger is refused: a mistake in its name, mostly.",
    )

    @property
    def title(self) -> str:
        """Its name, given or not."""
        if self.name is not None:
            return self.name
        source = self.symbol or self.file or self.python or ""
        return re.split(r"[/:]", source)[-1].lower()

    @property
    def source(self) -> str:
        """What it names, in words: "symbol g_sessions"."""
        return next(
            f"{key} {value}" for key in ("symbol", "file", "python") if (value := getattr(self, key)) is not None
        )

    def check_size(self, size: int) -> None:
        """Raise StructureError for more than `size_mib_max`."""
        if size > self.size_mib_max * _MIB:
            raise StructureError(
                f"{self.title} has {size / _MIB:.1f} MiB, more than size_mib_max = {self.size_mib_max}",
                hint=f"if it is the right one, set size_mib_max = {-(-size // _MIB)}",
            )

    @field_validator("file")
    @classmethod
    def _file_is_absolute(cls, file: str | None) -> str | None:
        if file is not None and not file.startswith("/"):
            raise Misfit(f'file must be an absolute path, not "{file}"', "begin it with /")
        return file

    @field_validator("python")
    @classmethod
    def _python_is_a_path(cls, python: str | None) -> str | None:
        if python is not None and not _PYTHON.fullmatch(python):
            raise Misfit(f'"{python}" is no path of a Python object', 'write "module.of.it:OBJECT"')
        return python

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = [key for key in ("symbol", "file", "python") if getattr(self, key) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "none"
            raise Misfit(f"a structure has exactly one of symbol, file and python, not {what}", "write one table each")
        for key, default in (("library", None), ("exclude", ())):
            if given != ["symbol"] and getattr(self, key) != default:
                raise Misfit(f"{key} means nothing to a structure with {given[0]}", f"leave {key} out")
        if given == ["python"] and "consistency" in self.model_fields_set:
            raise Misfit("consistency means nothing to a structure with python", "its program says when it is")
        if not re.fullmatch(_NAME, self.title):
            raise Misfit(f'"{self.title}" can\'t be the name of a structure', 'give it one: name = "sessions", say')
        return self
