"""The text of a unit as systemd.syntax(7) has it: sections, assignments, lines that go on, comments. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from transport.errors import ConfigError

_FALSE: Final = frozenset({"0", "no", "false", "off", "n", "f"})


@dataclass(slots=True)
class Unit:
    """name: as systemd knows it ("redis-server.service"). assignments: by section and key, in the order of the files;
    an empty one has taken away those before it."""

    name: str
    assignments: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def all(self, key: str, section: str = "Service") -> list[str]:
        """Every value of a key that may be given several times."""
        return self.assignments.get((section, key), [])

    def last(self, key: str, section: str = "Service") -> str:
        """The value that counts; "" for none."""
        return next(reversed(self.all(key, section)), "")

    def says(self, key: str, section: str = "Service") -> bool:
        """A yes or no that is yes; what is neither is taken for the yes that it may be ("strict")."""
        value = self.last(key, section).lower()
        return bool(value) and value not in _FALSE

    def is_emptied(self, key: str, section: str = "Service") -> bool:
        """Whether it is given, and has no value in the end."""
        return self.assignments.get((section, key)) == []

    def names(self, section: str = "Service") -> list[str]:
        """The keys that have a value, in the order in which they stand."""
        return [key for (where, key), values in self.assignments.items() if where == section and values]


def read(unit: Unit, text: str, where: str) -> None:
    """Add what stands in one file. where: its path, for errors. Raises ConfigError for what is no unit."""
    section = ""
    for number, line in _lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, sign, value = line.partition("=")
        if not sign or not section:
            what = f"{where}: line {number} is neither a section nor an assignment: {line[:60]!r}"
            raise ConfigError(what, hint="is it the file of a systemd unit?")
        values = unit.assignments.setdefault((section, key.strip()), [])
        if value.strip():
            values.append(value.strip())
        else:
            values.clear()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line, those that go on joined; comments are left out, within such a line too."""
    held, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith(("#", ";")) or (not stripped and not held):
            continue
        first = first if held else number
        if stripped.endswith("\\"):
            held += stripped[:-1] + " "
            continue
        whole, held = held + stripped, ""
        if whole.strip():
            yield first, whole.strip()
    if held.strip():
        yield first, held.strip()
