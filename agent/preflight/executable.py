"""What an executable is, read from its own bytes (elf(5)): word size, interpreter, and the libraries that it asks for.

Nothing is run (ldd(1) runs what it looks at). The search for libraries is a good guess at what ld.so(8) will do; what
is really mapped is known once the program runs.
"""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transport.errors import PreflightError

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_EM_X86_64 = 62
_FILE_BYTES_READ_MAX = 1 << 30
_STANDARD_DIRECTORIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)


@dataclass(frozen=True, slots=True)
class Executable:
    """One ELF file or script.

    bits: 32 or 64, 0 for a script. machine: e_machine. interpreter: of PT_INTERP, or of a script's first line, or "".
    needed: names of libraries, as DT_NEEDED has them. search: directories of DT_RPATH and DT_RUNPATH.
    """

    path: str
    bits: int
    machine: int
    interpreter: str
    needed: tuple[str, ...]
    search: tuple[str, ...]

    @property
    def is_script(self) -> bool:
        """Whether it begins with `#!`."""
        return self.bits == 0

    @property
    def is_x86_64(self) -> bool:
        """Whether this program can be mirrored as far as its instructions go."""
        return self.bits == 64 and self.machine == _EM_X86_64


def read_executable(path: str) -> Executable:
    """Read the executable at `path`.

    Raises PreflightError where it does not exist, can't be read or executed, or is neither ELF nor a script.
    """
    try:
        if not os.path.isfile(path):
            what = "is not a regular file" if os.path.exists(path) else "does not exist"
            raise PreflightError(f"{path}: {what}", hint="program.command must begin with the path of an executable")
        if not os.access(path, os.X_OK):
            raise PreflightError(f"{path}: is not executable", hint=f"chmod +x {path}")
        with open(path, "rb") as file:
            return parse_executable(path, file.read(_FILE_BYTES_READ_MAX))
    except OSError as error:
        raise PreflightError(f"{path}: can't be read: {error.strerror}") from error


def parse_executable(path: str, content: bytes) -> Executable:
    """The executable whose bytes are `content`; raises PreflightError where they are none."""
    if content.startswith(b"#!"):
        words = content[2:].split(b"\n", 1)[0].split(None, 1)
        interpreter = os.fsdecode(words[0]) if words else ""
        return Executable(path, 0, 0, interpreter, (), ())
    if not content.startswith(b"\x7fELF") or len(content) < 64:
        raise PreflightError(f"{path}: is neither an ELF file nor a script", hint="give the path of the program itself")
    machine = struct.unpack_from("<H", content, 18)[0]
    if content[4] != 2:
        return Executable(path, 32, machine, "", (), ())
    try:
        return _parse_elf64(path, machine, content)
    except (struct.error, ValueError) as error:
        raise PreflightError(f"{path}: is a damaged ELF file ({error})") from error


def _parse_elf64(path: str, machine: int, content: bytes) -> Executable:
    table, entry_bytes, entries = struct.unpack_from("<Q14xHH", content, 32)
    headers = [struct.unpack_from("<IIQQQQ", content, table + entry_bytes * row) for row in range(entries)]
    loads = [(address, address + size, offset) for kind, _, offset, address, _, size in headers if kind == _PT_LOAD]
    if any(offset + size > len(content) for kind, _, offset, _, _, size in headers if kind == _PT_LOAD):
        raise ValueError("it is cut off")
    interpreter = ""
    dynamic: list[tuple[int, int]] = []
    for kind, _, offset, _, _, size in headers:
        if kind == _PT_INTERP:
            interpreter = _text(content, offset)
        elif kind == _PT_DYNAMIC:
            dynamic = list(struct.iter_unpack("<QQ", content[offset : offset + size // 16 * 16]))
    strings = next((_offset_of(value, loads) for tag, value in dynamic if tag == _DT_STRTAB), 0)
    needed = tuple(_text(content, strings + value) for tag, value in dynamic if tag == _DT_NEEDED)
    places = [_text(content, strings + value) for tag, value in dynamic if tag in (_DT_RPATH, _DT_RUNPATH)]
    search = tuple(place for text in places for place in text.split(":") if place)
    return Executable(path, 64, machine, interpreter, needed, search)


def _offset_of(address: int, loads: list[tuple[int, int, int]]) -> int:
    for start, end, offset in loads:
        if start <= address < end:
            return offset + address - start
    raise ValueError(f"address {address:#x} is in no segment")


def _text(content: bytes, offset: int) -> str:
    end = content.index(b"\0", offset)
    return os.fsdecode(content[offset:end])


def files_of(path: str) -> list[str]:
    """The resolved paths of the executable, its interpreter and all libraries that were found, sorted.

    Raises PreflightError as `read_executable` does; libraries that are not found are left out.
    """
    found: dict[str, Executable] = {}
    places = (*_configured_directories(), *_STANDARD_DIRECTORIES)
    waiting = [path]
    while waiting:
        resolved = os.path.realpath(waiting.pop())
        if resolved in found:
            continue
        found[resolved] = executable = read_library(resolved) if found else read_executable(resolved)
        if executable.interpreter:
            waiting.append(executable.interpreter)
        waiting += _libraries(executable, places)
    return sorted(found)


def read_library(path: str) -> Executable:
    """Like `read_executable`, for a file that needs not be executable itself."""
    try:
        return parse_executable(path, Path(path).read_bytes())
    except OSError as error:
        raise PreflightError(f"{path}: can't be read: {error.strerror}") from error


def _libraries(executable: Executable, places: tuple[str, ...]) -> Iterator[str]:
    origin = os.path.dirname(executable.path)
    own = [place.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for place in executable.search]
    for name in executable.needed:
        candidates = [name] if "/" in name else [os.path.join(place, name) for place in (*own, *places)]
        first = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
        if first is not None:
            yield first


def _configured_directories(path: str = "/etc/ld.so.conf", depth: int = 0) -> tuple[str, ...]:
    """The directories of ld.so.conf, its includes followed."""
    found: list[str] = []
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ()
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"] and depth < 4:
            for pattern in words[1:]:
                for included in sorted(glob.glob(os.path.join(os.path.dirname(path), pattern))):
                    found += _configured_directories(included, depth + 1)
        elif words and words[0].startswith("/"):
            found.append(words[0])
    return tuple(found)
