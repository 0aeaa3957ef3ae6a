"""The smallest executables: a process that only exists, and what an executable file says of itself (elf(5))."""

from __future__ import annotations

import os
import struct

from agent.kernel.libc import NR

STUB_ADDRESS = 0x20_0000
PAGE_BYTES = 4096

_HEADER_BYTES = 64
_PROGRAM_HEADER_BYTES = 56
EM_X86_64 = 62
_ET_EXEC, _PT_LOAD, _RWX = 2, 1, 7

# again: mov eax, pause; syscall; jmp again
_PAUSE_FOR_EVER = b"\xb8" + struct.pack("<I", NR.PAUSE) + b"\x0f\x05" + b"\xeb\xf7"

ELFCLASS32, ELFCLASS64 = 1, 2


def stub_executable(code: bytes = _PAUSE_FOR_EVER, address: int = STUB_ADDRESS) -> bytes:
    """A static executable without libc whose one page at `address`, readable, writable and executable, begins with
    its headers and runs `code`.

    The default code is the idle stub: pause(2) for ever. It serves a shadow, whose contents replace it, and process 1
    of a PID namespace, which has nothing to do: with SIGCHLD ignored, which survives exec, the kernel itself reaps
    orphans (wait(2), NOTES).
    """
    entry = address + _HEADER_BYTES + _PROGRAM_HEADER_BYTES
    size = _HEADER_BYTES + _PROGRAM_HEADER_BYTES + len(code)
    ident = b"\x7fELF" + bytes([ELFCLASS64, 1, 1]) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        _ET_EXEC,
        EM_X86_64,
        1,
        entry,
        _HEADER_BYTES,
        0,
        0,
        _HEADER_BYTES,
        _PROGRAM_HEADER_BYTES,
        1,
        0,
        0,
        0,
    )
    load = struct.pack("<IIQQQQQQ", _PT_LOAD, _RWX, 0, address, address, size, PAGE_BYTES, PAGE_BYTES)
    return header + load + code


def executable_memfd(name: str, image: bytes) -> int:
    """A read-only, close-on-exec descriptor of an executable that lives in memory only (memfd_create(2)); the caller
    closes it."""
    writable = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.write(writable, image)
        # A file that is open for writing can't be executed (ETXTBSY).
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)


def word_size(head: bytes) -> int | None:
    """64 or 32 for the first bytes of an ELF file of that class, None for anything else (a script)."""
    if head[:4] != b"\x7fELF" or len(head) < 5:
        return None
    return {ELFCLASS32: 32, ELFCLASS64: 64}.get(head[4])


def machine(head: bytes) -> int | None:
    """The machine (EM_ number) that an ELF file is for, None for anything else."""
    return int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" and len(head) >= 20 else None


def interpreter(head: bytes) -> str | None:
    """The interpreter that the first line of a script names ("#!/usr/bin/python3 -u" gives "/usr/bin/python3"), None
    for anything else."""
    if not head.startswith(b"#!"):
        return None
    words = head[2:].split(b"\n", 1)[0].split()
    return os.fsdecode(words[0]) if words else None
