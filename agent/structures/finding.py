"""Where a named variable is: in which file, of what type, and at which address of a running process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from agent.errors import StructureError
from agent.kernel import procfs
from agent.kernel.procfs import Mapping
from agent.structures import shape
from agent.structures.dwarf import layout_of
from agent.structures.elf_file import ElfFile, Symbol
from agent.structures.layout import Layout, Opaque
from agent.structures.shape import Extents, Line

_PAGE: Final = 1 << procfs.PAGE_SHIFT
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure that can be mirrored. remarks: what could not be checked, one line each.

    lines: its description, which must be the same on the other side; digest: of the lines. extents: what is mirrored.
    """

    name: str
    layout: Layout
    remarks: tuple[str, ...] = ()
    lines: tuple[Line, ...] = field(init=False)
    digest: str = field(init=False)
    extents: Extents = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(shape.describe(self.layout)))
        object.__setattr__(self, "digest", shape.digest(self.lines))
        object.__setattr__(self, "extents", shape.mirrored(self.layout))

    @property
    def size(self) -> int:
        return self.layout.size

    def check_same(self, lines: Sequence[Line]) -> None:
        """Raise StructureError, with the first member that differs, when the other side's is another layout."""
        difference = shape.first_difference(self.lines, lines, self.name)
        if difference:
            if any(isinstance(one, Opaque) for one in (self.layout,)):
                hint = "build both with -g, or run the same build on both sides"
            else:
                hint = "run builds with the same layout, or exclude what differs on both sides"
            raise StructureError(f"{self.name} has another layout on the other side: {difference}", hint=hint)


@dataclass(frozen=True, slots=True)
class Placed:
    """A structure at its address in one process."""

    structure: Structure
    pid: int
    address: int


def examine(
    elf: ElfFile,
    wanted: str,
    *,
    name: str = "",
    exclude: Iterable[str] = (),
    symbol: Symbol | None = None,
    travels: bool = True,
) -> Structure:
    """The variable `wanted` of a file as a structure called `name` (not given: the same), which needs no process.

    exclude: paths of members, which begin with `wanted`. travels: it is to be written into another process, so that
    nothing in it may mean something in its own process only.

    Without debug information it is mirrored as it is, between processes of the same build only: nothing tells where
    pointers are, nor whether another build has the same layout. Raises StructureError for what can't be mirrored.
    """
    symbol = symbol or elf.variable(wanted)
    name = name or wanted
    if elf.is_constant(symbol):
        raise StructureError(f"{wanted} in {elf.name} is constant", hint="a mirror has the same already")
    dwarf = elf.dwarf()
    layout = layout_of(dwarf, symbol) if dwarf is not None else None
    if layout is not None:
        layout = shape.exclude(layout, wanted, exclude)
        if travels:
            shape.refuse(layout, wanted)
        return Structure(name, layout)
    if list(exclude):
        raise StructureError(
            f"{wanted}: nothing can be excluded, since {elf.name} has no debug information of it",
            hint="build it with -g; the program may be as optimised as before",
        )
    remark = (
        f"{name}: {elf.name} has no debug information of it, so that pointers in it would not be found, "
        "and only the same build is accepted on the other side"
    )
    return Structure(name, Opaque(symbol.size, elf.build), (remark,))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a program has mapped, and where its files can be read: pid 0 for one of which only that is known."""

    pid: int
    executable: str
    mappings: list[Mapping]
    root: str = ""

    @classmethod
    def of(cls, pid: int) -> Self:
        """Of a running process. Raises TraceeGone."""
        return cls(pid, procfs.read_link(pid, "exe"), procfs.mappings(pid), procfs.path_of(pid, "root"))

    def own_file(self) -> ElfFile:
        """The executable; of a running process also one that was replaced since."""
        path = procfs.path_of(self.pid, "exe") if self.pid else self.root + self.executable
        return ElfFile(path, name=self.executable.removesuffix(_DELETED))

    def library(self, path: str) -> ElfFile:
        return ElfFile(self.root + path, name=path)


def find(pid: int, wanted: str, *, library: str = "", name: str = "", exclude: Iterable[str] = ()) -> Placed:
    """The variable `wanted` of a running process: of its executable, or of the shared library with that file name.

    Raises StructureError, TraceeGone.
    """
    return find_loaded(Loaded.of(pid), wanted, library=library, name=name, exclude=exclude)


def find_loaded(
    loaded: Loaded,
    wanted: str,
    *,
    library: str = "",
    name: str = "",
    exclude: Iterable[str] = (),
    travels: bool = True,
) -> Placed:
    """The same of a program of which is known what it has mapped. travels: see `examine`. Raises StructureError."""
    with loaded.own_file() as own:
        if not library:
            symbol = own.variable(wanted)
            structure = examine(own, wanted, name=name, exclude=exclude, symbol=symbol, travels=travels)
            return Placed(structure, loaded.pid, _address(own, loaded.executable, symbol, loaded.mappings))
        path = _library(library, loaded)
        with loaded.library(path) as elf:
            symbol = elf.variable(wanted)
            structure = examine(elf, wanted, name=name, exclude=exclude, symbol=symbol, travels=travels)
            # The executable may have taken the variable over; then the library uses that one too.
            if (copied := own.copied_from_library(symbol.name)) is not None:
                return Placed(structure, loaded.pid, _address(own, loaded.executable, copied, loaded.mappings))
            return Placed(structure, loaded.pid, _address(elf, path, symbol, loaded.mappings))


def _library(library: str, loaded: Loaded) -> str:
    """The path of the mapped file of that name, with a version at its end or without."""
    program = f"process {loaded.pid}" if loaded.pid else loaded.executable
    paths = sorted({one.name for one in loaded.mappings if one.name.startswith("/")})
    found = [one for one in paths if _is_called(one.removesuffix(_DELETED), library)]
    if not found:
        names = sorted({os.path.basename(one) for one in paths if ".so" in os.path.basename(one)})
        raise StructureError(
            f"{program} has not loaded {library}", hint="it has " + (", ".join(names) or "no shared library")
        )
    if len(found) > 1:
        raise StructureError(f"{library} may be {' or '.join(found)}", hint="write the whole path")
    if found[0].endswith(_DELETED):
        raise StructureError(
            f"{found[0].removesuffix(_DELETED)} was replaced since {program} loaded it",
            hint="restart the program",
        )
    return found[0]


def _is_called(path: str, library: str) -> bool:
    name = os.path.basename(path)
    return path == library or name == library or name.startswith(library + ".")


def _address(elf: ElfFile, path: str, symbol: Symbol, mappings: list[Mapping]) -> int:
    """Where the symbol is in the process (System V ABI, "Program Loading": the first segment is mapped lowest)."""
    first = elf.segments[0]
    starts = [one.start for one in mappings if one.name == path and one.offset == first.offset & -_PAGE]
    if len(starts) != 1:
        times = "not mapped" if not starts else f"mapped {len(starts)} times"
        raise StructureError(f"{elf.name} is {times}", hint="name a library that is loaded once")
    address = starts[0] - (first.address & -_PAGE) + symbol.address
    reached = address
    for one in mappings:
        if one.start <= reached < one.end and one.writable:
            reached = one.end
    if reached < address + symbol.size:
        raise StructureError(
            f"{symbol.name} at {address:#x} is not in memory that can be written",
            hint="the program may have changed how it is mapped",
        )
    return address
