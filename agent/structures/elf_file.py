"""One ELF file: its variables, its loadable segments, its build (elf(5))."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import NoteSection, SymbolTableSection

from agent.errors import StructureError
from agent.structures.symbol_name import readable

DEBUG_DIRECTORY: Final = Path("/usr/lib/debug/.build-id")
"""Where distributions put the debug information of stripped files (gdb, "Debugging Information in Separate Files")."""
_COPY: Final = 5
"""R_X86_64_COPY: a library's variable lives in the executable (System V ABI, AMD64 supplement)."""
_NEAR_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable. address: as linked, before the file is placed in a process; size in bytes.

    unit: the source file of a static variable, "" of one that all units share.
    """

    name: str
    address: int
    size: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file that is loaded (PT_LOAD): offset in the file, address as linked, bytes in memory."""

    offset: int
    address: int
    size: int
    is_writable: bool


class ElfFile:
    """An ELF file, open for reading. name: what errors call it."""

    def __init__(self, path: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Raises StructureError when it can't be read or is no 64-bit ELF file."""
        self.name = name or os.fspath(path)
        try:
            self._stream = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise StructureError(f"{self.name}: {error.strerror}", hint="is it the program's own file?") from error
        try:
            self._elf = ELFFile(self._stream)
        except (ELFError, UnicodeDecodeError) as error:
            self._stream.close()
            raise StructureError(
                f"{self.name} is no ELF file: {error}",
                hint="a script's structures belong to its interpreter; for Python there is `python = ...`",
            ) from error
        if self._elf.elfclass != 64 or not self._elf.little_endian:
            self._stream.close()
            raise StructureError(f"{self.name} is no 64-bit little-endian file", hint="only x86-64 programs are known")
        self._debug: ElfFile | None = None

    def __enter__(self) -> ElfFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it, and the file of its debug information."""
        self._stream.close()
        if self._debug is not None:
            self._debug.close()

    @property
    def build(self) -> str:
        """What tells this build from every other: the build id, or a digest of the whole file where it has none."""
        for section in self._elf.iter_sections():
            if isinstance(section, NoteSection):
                for note in section.iter_notes():
                    if note["n_type"] == "NT_GNU_BUILD_ID":
                        return str(note["n_desc"])
        self._stream.seek(0)
        return "sha256-" + hashlib.file_digest(self._stream, "sha256").hexdigest()

    @property
    def segments(self) -> list[Segment]:
        """What of it is loaded, ascending by address."""
        return [
            Segment(one["p_offset"], one["p_vaddr"], one["p_memsz"], bool(one["p_flags"] & 2))
            for one in self._elf.iter_segments()
            if one["p_type"] == "PT_LOAD"
        ]

    @property
    def is_fixed(self) -> bool:
        """Whether it is always placed where it was linked to (an executable that is not position-independent)."""
        return bool(self._elf["e_type"] == "ET_EXEC")

    def dwarf(self) -> DWARFInfo | None:
        """Its debug information, be it in a file of its own; None where there is none."""
        if self._elf.has_dwarf_info(strict=True):
            return self._elf.get_dwarf_info()
        debug = self._debug_file()
        return debug.dwarf() if debug is not None else None

    def _debug_file(self) -> ElfFile | None:
        build = self.build
        path = DEBUG_DIRECTORY / build[:2] / f"{build[2:]}.debug"
        if self._debug is None and path.is_file():
            debug = ElfFile(path)
            if os.path.sameopenfile(debug._stream.fileno(), self._stream.fileno()):
                debug.close()
            else:
                self._debug = debug
        return self._debug

    # ---- symbols

    def variable(self, wanted: str) -> Symbol:
        """The variable of that name: as in the symbol table, as in the source ("engine::book"), or with its unit
        ("book.c:entries").

        Raises StructureError: there is none (near names are offered), there are several, it is stripped, a function,
        thread-local, defined elsewhere or constant.
        """
        found = self._symbols()
        unit, _, name = _split(wanted)
        matching = [one for one in found if name in (one.name, readable(one.name)) and unit in ("", one.unit)]
        if not matching:
            self._explain_absence(wanted, name, found)
        if len(matching) > 1:
            units = sorted(one.unit or "(all units)" for one in matching)
            if len(set(units)) < len(units):
                hint = "rename one of them: their units have the same name"
            else:
                hint = "name one with its unit: " + " or ".join(f'"{one}:{name}"' for one in units if one[0] != "(")
            raise StructureError(f"{wanted} exists {len(matching)} times in {self.name}: {', '.join(units)}", hint=hint)
        [symbol] = matching
        if not symbol.size:
            raise StructureError(f"{wanted} in {self.name} has no size", hint="it was made by an assembler")
        return symbol

    def copied_from_library(self, name: str) -> Symbol | None:
        """Where this executable keeps a library's variable, if it has taken it over at its start (copy relocation)."""
        for section in self._elf.iter_sections():
            if isinstance(section, RelocationSection):
                table = self._elf.get_section(section["sh_link"])
                for one in section.iter_relocations():
                    if one["r_info_type"] == _COPY and isinstance(table, SymbolTableSection):
                        symbol = table.get_symbol(one["r_info_sym"])
                        if symbol.name == name:
                            return Symbol(name, symbol["st_value"], symbol["st_size"])
        return None

    def _symbols(self) -> list[Symbol]:
        """All variables, those of the debug file too; one that stands in two tables counts once."""
        found: dict[tuple[str, int], Symbol] = {}
        for table in self._tables():
            unit = ""
            for symbol in table.iter_symbols():
                kind, where = symbol["st_info"]["type"], symbol["st_shndx"]
                if kind == "STT_FILE":
                    unit = symbol.name
                elif kind in ("STT_OBJECT", "STT_COMMON") and where != "SHN_UNDEF":
                    is_local = symbol["st_info"]["bind"] == "STB_LOCAL"
                    name = symbol.name.partition("@")[0]
                    one = Symbol(name, symbol["st_value"], symbol["st_size"], unit if is_local else "")
                    found.setdefault((name, one.address), one)
        return list(found.values())

    def _tables(self) -> list[SymbolTableSection]:
        tables = [one for one in self._elf.iter_sections() if isinstance(one, SymbolTableSection)]
        full = any(one.name == ".symtab" for one in tables)
        debug = None if full else self._debug_file()
        return tables + (debug._tables() if debug is not None else [])

    def _explain_absence(self, wanted: str, name: str, found: list[Symbol]) -> None:
        for table in self._tables():
            for symbol in table.get_symbol_by_name(name) or ():
                kind = symbol["st_info"]["type"]
                if kind == "STT_TLS":
                    raise StructureError(
                        f"{wanted} in {self.name} is thread-local: every thread has one of its own",
                        hint="only a variable that there is once can be mirrored",
                    )
                if kind == "STT_FUNC":
                    raise StructureError(f"{wanted} in {self.name} is a function", hint="name a variable")
                if symbol["st_shndx"] == "SHN_UNDEF":
                    libraries = ", ".join(self.libraries) or "a library"
                    raise StructureError(
                        f"{wanted} is used by {self.name}, and defined elsewhere",
                        hint=f'say where: library = "...", one of {libraries}',
                    )
        if all(one.name != ".symtab" for one in self._tables()):
            raise StructureError(
                f"{wanted} can't be found: {self.name} is stripped of its symbol table",
                hint="build it without -s, don't strip it, or install its debug symbols",
            )
        raise StructureError(f"there is no variable {wanted} in {self.name}", hint=_near(wanted, name, found))

    @property
    def libraries(self) -> list[str]:
        """The shared libraries that it names (DT_NEEDED)."""
        return [
            str(vars(tag)["needed"])
            for section in self._elf.iter_sections()
            if isinstance(section, DynamicSection)
            for tag in section.iter_tags("DT_NEEDED")
        ]

    def is_constant(self, symbol: Symbol) -> bool:
        """Whether the program itself can't change it: it is read only, or made so when all is loaded (RELRO)."""
        begin, end = symbol.address, symbol.address + symbol.size
        for one in self._elf.iter_segments():
            covers = one["p_vaddr"] <= begin and end <= one["p_vaddr"] + one["p_memsz"]
            if covers and (one["p_type"] == "PT_GNU_RELRO" or (one["p_type"] == "PT_LOAD" and not one["p_flags"] & 2)):
                return True
        return False


def _split(wanted: str) -> tuple[str, str, str]:
    """The unit, the colon and the name of "book.c:entries"; "engine::book" has no unit."""
    found = re.fullmatch(r"([^:]+)(:)((?!:).+)", wanted)
    return (found[1], found[2], found[3]) if found else ("", "", wanted)


def _near(wanted: str, name: str, found: list[Symbol]) -> str:
    names = {shown for one in found for shown in (one.name, readable(one.name)) if not shown.startswith("_Z")}
    units = sorted({one.unit for one in found if name in (one.name, readable(one.name)) and one.unit})
    if units:
        return f"{name} is in " + ", ".join(units)
    near = difflib.get_close_matches(name, sorted(names), _NEAR_MAX, 0.6)
    return "do you mean " + " or ".join(near) + "?" if near else "nm lists what there is"
