"""All structures of a definition in one running program: where each is, or why it can't be mirrored.

It reads debug information, which takes seconds of a large program: do it in a thread that nobody waits for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.errors import StructureError
from agent.structures.finding import Placed, Structure, find
from agent.structures.regular_file import RegularFile
from agent.structures.report import Refusal
from agent.structures.table import StructureTable


@dataclass(frozen=True, slots=True)
class Located:
    """A structure that can be mirrored. place: of a variable; None: it is the table's file."""

    table: StructureTable
    structure: Structure
    place: Placed | None

    @property
    def name(self) -> str:
        return self.structure.name


def locate(tables: Iterable[StructureTable], pid: int) -> tuple[list[Located], list[Refusal]]:
    """The native structures of a process; those of Python are not looked at. Raises TraceeGone."""
    found: list[Located] = []
    refused: list[Refusal] = []
    for table in tables:
        if table.python is None:
            try:
                if any(one.name == table.title for one in found):
                    raise StructureError(f"two structures are called {table.title}", hint="give one of them a name")
                found.append(_located(table, pid))
            except StructureError as error:
                refused.append(Refusal.of(table.title, "not-mirrorable", error))
    return found, refused


def _located(table: StructureTable, pid: int) -> Located:
    place: Placed | None = None
    if table.file is not None:
        file = RegularFile(table.file, table.title)
        structure = file.structure
        file.close()
    else:
        place = find(pid, table.symbol or "", library=table.library or "", name=table.title, exclude=table.exclude)
        structure = place.structure
    table.check_size(structure.size)
    return Located(table, structure, place)
