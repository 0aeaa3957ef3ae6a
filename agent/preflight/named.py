"""Preflight of named structures: those of the executable can be looked at before anything runs.

Variables of libraries, files and Python objects are there only when the program runs; what is wrong with them is said
then, in the instance's status and its agent's log.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.errors import StructureError
from agent.preflight.host import Check
from agent.program import Definition
from agent.reason import Reason
from agent.structures.elf_file import ElfFile
from agent.structures.finding import Structure, examine
from agent.structures.sampled import check_sampled, sampled_tables
from agent.structures.table import StructureTable


def structure_checks(definition: Definition) -> tuple[list[Check], list[Reason]]:
    """A check for each variable of the executable, and what could not be checked of them."""
    checks: list[Check] = []
    notes: list[Reason] = []
    is_warm, sampled = definition.mirror.mode == "structures", sampled_tables(definition)
    for table in definition.structures:
        if table.symbol is not None and table.library is None:
            travels = is_warm or table.independent
            check_size = check_sampled if table in sampled else _check_size
            path = definition.program.command[0]
            checks.append(_check(path, table, table.symbol, notes, travels=travels, check_size=check_size))
    return checks, notes


def _check_size(table: StructureTable, structure: Structure) -> None:
    table.check_size(structure.size)


def _check(
    path: str,
    table: StructureTable,
    symbol: str,
    notes: list[Reason],
    *,
    travels: bool,
    check_size: Callable[[StructureTable, Structure], None],
) -> Check:
    where = f"structures.{table.title}"
    try:
        with ElfFile(path) as elf:
            structure = examine(elf, symbol, name=table.title, exclude=table.exclude, travels=travels)
        check_size(table, structure)
    except StructureError as error:
        return Check(where, symbol, (Reason(error.what, where, error.hint),))
    notes += [Reason(remark, where) for remark in structure.remarks if travels]
    return Check(where, f"{symbol}, {structure.size} bytes")
