"""NAME.toml from the disk to a `Definition`."""

from __future__ import annotations

import os
from typing import Final

from agent.program import Definition
from transport.settings_file import Mistake, SettingsFile

REFERENCE_HINT: Final = "`kagemusha config reference` lists every key with its type and default"

PROGRAM_FILE: Final = SettingsFile(
    Definition, "a NAME.toml", "examples/ has some", REFERENCE_HINT, check="kagemusha config check"
)


def load_definition(path: str | os.PathLike[str]) -> Definition:
    """The definition in the file at `path`.

    Raises ConfigError with the first mistake; `mistakes_in` finds all of them.
    """
    return PROGRAM_FILE.load(path)


def mistakes_in(path: str | os.PathLike[str]) -> list[Mistake]:
    """All mistakes of the file at `path`; empty where it can be used."""
    return PROGRAM_FILE.mistakes_in(path)
