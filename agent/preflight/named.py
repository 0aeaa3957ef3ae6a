"""Preflight of named structures: those of the executable can be looked at before anything runs.

Variables of libraries, files and Python objects are there only when the program runs; what is wrong with them is said
then, in the instance's status and its agent's log.
"""

from __future__ import annotations

from agent.errors import StructureError
from agent.preflight.host import Check
from agent.program import Definition
from agent.reason import Reason
from agent.structures.elf_file import ElfFile
from agent.structures.finding import examine
from agent.structures.table import StructureTable


def structure_checks(definition: Definition) -> tuple[list[Check], list[Reason]]:
    """A check for each variable of the executable, and what could not be checked of them."""
    checks: list[Check] = []
    notes: list[Reason] = []
    travels = definition.mirror.mode == "structures"
    for table in definition.structures:
        if table.symbol is not None and table.library is None:
            checks.append(_check(definition.program.command[0], table, table.symbol, notes, travels=travels))
    return checks, notes


def _check(path: str, table: StructureTable, symbol: str, notes: list[Reason], *, travels: bool) -> Check:
    where = f"structures.{table.title}"
    try:
        with ElfFile(path) as elf:
            structure = examine(elf, symbol, name=table.title, exclude=table.exclude, travels=travels)
        table.check_size(structure.size)
    except StructureError as error:
        return Check(where, symbol, (Reason(error.what, where, error.hint),))
    notes += [Reason(remark, where) for remark in structure.remarks if travels]
    return Check(where, f"{symbol}, {structure.size} bytes")
