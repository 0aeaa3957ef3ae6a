"""One structure as its client keeps it: where it comes from, when it may be touched, and how old what is safe is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any, Union

from kagemusha.structures.consistency import Anytime, Explicit, Locked, OnLoop
from kagemusha.structures.errors import PathError
from kagemusha.structures.structure import LIMIT_BYTES, Structure
from kagemusha.structures.values import Types

Consistency = Union[Explicit, Locked, OnLoop, Anytime]
TYPES = Types()
"""The program's own types: of the whole program, since its structures may share them."""


class Member:
    """`acknowledged`: highest version that the mirrors have applied; `mirrors`: how many of them have."""

    def __init__(self, structure: Structure, consistency: Consistency, path: str | None = None) -> None:
        self.structure = structure
        self.consistency = consistency
        structure.consistency = consistency.name
        self.start_anew()
        self._path = path

    def start_anew(self) -> None:
        """The role has changed: nothing is known of others."""
        self.acknowledged = 0
        self.mirrors = 0
        self._safe_at: float | None = None
        self._taken_at: dict[int, float] = {}

    def check_path(self) -> None:
        """Raise PathError if the name is bound to another object by now."""
        if self._path is not None and at_path(self._path) is not self.structure.graph.root:
            raise PathError(
                f"structure {self.structure.name}: {self._path} is bound to another object than at the start",
                hint="change the object in place, or call structures.mirror() for it",
            )

    def taken(self, now: float, *, is_changed: bool) -> None:
        """The original was read: it had changed since the last time, or not."""
        version = self.structure.version
        if is_changed or version not in self._taken_at:
            self._taken_at.setdefault(version, now)
        if not is_changed and self.acknowledged >= version:
            self._safe_at = now

    def confirmed(self, version: int, mirrors: int) -> None:
        """The mirrors have applied a version of the original."""
        if version > self.structure.version:
            return
        self.mirrors = mirrors
        self.acknowledged = max(self.acknowledged, version)
        for old in [known for known in self._taken_at if known <= version]:
            self._safe_at = max(self._taken_at.pop(old), self._safe_at or 0.0)

    def applied(self, captured_at: float) -> None:
        """The copy is what the original was at that time."""
        self._safe_at = max(captured_at, self._safe_at or 0.0)

    def lag_s(self, now: float) -> float | None:
        """Age of the newest content that is on both sides, in seconds; None: there is none yet."""
        return None if self._safe_at is None else max(0.0, now - self._safe_at)


def at_path(path: str) -> Any:
    """Return the object of a path such as `exchange.engine:BOOK`; raises PathError, saying which part is missing."""
    module_name, _, names = path.partition(":")
    if not module_name or not names:
        raise PathError(f"{path!r} is no path", hint="package.module:NAME")
    module = sys.modules.get(module_name)
    if module is None:
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise PathError(f"{path}: {module_name} can't be imported: {error!r}") from error
    found: Any = module
    for name in names.split("."):
        if not hasattr(found, name):
            raise PathError(f"{path}: there is no {name}", hint="names are looked up when the program has started")
        found = getattr(found, name)
    return found


def is_loaded(path: str) -> bool:
    """Whether the program itself has come so far that the object is there."""
    module_name, _, names = path.partition(":")
    found: Any = sys.modules.get(module_name)
    for name in names.split("."):
        found = getattr(found, name, None)
    return found is not None


def may_be_loaded(path: str) -> bool:
    """Whether the program can still import the module: there is a package of that name."""
    package = path.partition(":")[0].partition(".")[0]
    return package in sys.modules or importlib.util.find_spec(package) is not None


def looked_up(name: str, path: str, limit_bytes: int | None) -> Member:
    """Return the object of a path as a structure; raises StructuresError. It is read at any time."""
    return Member(Structure(name, at_path(path), TYPES, limit_bytes=limit_bytes or LIMIT_BYTES), Anytime(), path)
