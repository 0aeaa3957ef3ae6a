"""Structures of a program that is mirrored as a whole, read more often than it: which there are, and where they lie.

It reads debug information, which takes seconds of a large program: do it in a thread that nobody waits for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from agent.context.layout import parse_line
from agent.errors import StructureError
from agent.kernel import procfs
from agent.program import Definition
from agent.structures.finding import Loaded, Placed, Structure, find_loaded
from agent.structures.layout import Opaque
from agent.structures.locating import Located
from agent.structures.report import Refusal
from agent.structures.table import StructureTable
from transport.messages import EXTENTS_MAX, SAMPLED_BYTES_MAX

_MIB: Final = 1 << 20


def sampled_tables(definition: Definition) -> tuple[StructureTable, ...]:
    """Those that are read between checkpoints, too; none if the program is not mirrored as a whole."""
    if definition.mirror.mode == "structures":
        return ()
    return tuple(table for table in definition.structures if table.interval_ms is not None)


def independent_names(definition: Definition) -> frozenset[str]:
    """Those of them that a takeover goes on from."""
    return frozenset(table.title for table in sampled_tables(definition) if table.independent)


def check_sampled(table: StructureTable, structure: Structure) -> None:
    """Raise StructureError for one that is too much to be read so often."""
    table.check_size(structure.size)
    if structure.size > SAMPLED_BYTES_MAX:
        raise StructureError(
            f"{table.title} has {structure.size / _MIB:.1f} MiB; {SAMPLED_BYTES_MAX // _MIB} MiB at most can have an "
            "interval of their own beside a whole process",
            hint="leave interval_ms out: it is in each checkpoint",
        )
    if len(structure.extents) > EXTENTS_MAX:
        raise StructureError(
            f"{table.title} is {len(structure.extents)} pieces between what is excluded; at most {EXTENTS_MAX}",
            hint="leave interval_ms out, or exclude less",
        )


def locate_sampled(tables: Iterable[StructureTable], pid: int) -> tuple[list[Located], list[Refusal]]:
    """Where each lies in a running process, or why it can't be read. Raises TraceeGone."""
    loaded = Loaded.of(pid)
    found: list[Located] = []
    refused: list[Refusal] = []
    for table in tables:
        try:
            place = _mapped(table, pid) if table.file is not None else _variable(table, loaded)
            check_sampled(table, place.structure)
            found.append(Located(table, place.structure, place))
        except StructureError as error:
            refused.append(Refusal.of(table.title, "not-mirrorable", error))
        except OSError as error:
            refused.append(Refusal(table.title, "not-mirrorable", f"{error.filename}: {error.strerror}"))
    return found, refused


def _variable(table: StructureTable, loaded: Loaded) -> Placed:
    """What is only shown may hold pointers; what a takeover goes on from may not: they would lead into older memory."""
    return find_loaded(
        loaded,
        table.symbol or "",
        library=table.library or "",
        name=table.title,
        exclude=table.exclude,
        travels=table.independent,
    )


def _mapped(table: StructureTable, pid: int) -> Placed:
    """Shared memory of which the program has mapped all from its beginning on, in one piece."""
    areas = [parse_line(line) for line in procfs.read_bytes(pid, "maps").splitlines()]
    own = [area for area in areas if area.inode and area.path == table.file]
    first = next((area for area in own if area.offset == 0), None)
    if first is None:
        raise StructureError(f"{table.file} is not mapped by the program", hint="name a file that is")
    if first.kind != "object":
        raise StructureError(
            f"{table.file} is no shared memory: its content is not part of the program's checkpoints",
            hint="name a file in /dev/shm, or a symbol",
        )
    size = os.stat(procfs.path_of(pid, f"map_files/{first.start:x}-{first.end:x}")).st_size
    end = first.start
    for area in own:
        end = area.end if (area.start, area.offset) == (end, end - first.start) else end
    if not 0 < size <= end - first.start:
        raise StructureError(f"{table.file} is not mapped completely, in one piece", hint="name a file that is")
    return Placed(Structure(table.title, Opaque(size)), pid, first.start)
