"""ELF files and scripts, read from their bytes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from agent.preflight.executable import files_of, parse_executable, read_executable
from transport.errors import PreflightError

SERVER = "/usr/bin/redis-server"


def test_a_64_bit_program() -> None:
    found = read_executable(SERVER)
    assert found.is_x86_64
    assert not found.is_script
    assert found.interpreter.startswith("/lib64/ld-linux")
    assert "libc.so.6" in found.needed


def test_the_files_of_a_program_are_those_that_the_loader_takes() -> None:
    output = subprocess.run(["ldd", SERVER], capture_output=True, text=True, check=True).stdout
    paths = {word for word in output.split() if word.startswith("/")}
    assert set(files_of(SERVER)) == {os.path.realpath(path) for path in paths} | {os.path.realpath(SERVER)}


def test_a_script_has_the_files_of_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "service"
    script.write_text("#!/bin/sh -e\ntrue\n")
    script.chmod(0o755)
    assert read_executable(str(script)).is_script
    assert set(files_of(str(script))) == {str(script), *files_of("/bin/sh")}


def test_a_library_beside_the_executable_is_found(tmp_path: Path) -> None:
    """DT_RUNPATH with $ORIGIN."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "one.c").write_text("int one(void) { return 1; }\n")
    (tmp_path / "main.c").write_text("int one(void); int main(void) { return one(); }\n")
    library = tmp_path / "lib" / "libone.so"
    subprocess.run(["gcc", "-shared", "-o", library, tmp_path / "one.c"], check=True)
    program = tmp_path / "main"
    link = ["-L", str(tmp_path / "lib"), "-lone", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib"]
    subprocess.run(["gcc", "-o", program, tmp_path / "main.c", *link], check=True)
    assert os.path.realpath(library) in files_of(str(program))


def elf32() -> bytes:
    """The head of a 32-bit x86 program."""
    return b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 3, 1) + bytes(64)


def test_a_32_bit_program() -> None:
    found = parse_executable("/opt/old", elf32())
    assert found.bits == 32
    assert not found.is_x86_64


def test_a_64_bit_program_for_another_machine() -> None:
    content = bytearray(Path(SERVER).read_bytes()[:64])
    struct.pack_into("<H", content, 18, 183)
    struct.pack_into("<H", content, 56, 0)
    assert not parse_executable("/opt/arm", bytes(content)).is_x86_64


@pytest.mark.parametrize("length", [64, 200, 1000])
def test_a_damaged_file(length: int) -> None:
    with pytest.raises(PreflightError, match="/opt/cut: is a damaged ELF file"):
        parse_executable("/opt/cut", Path(SERVER).read_bytes()[:length])


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("hello")
    file.chmod(0o755)
    with pytest.raises(PreflightError, match="is neither an ELF file nor a script"):
        read_executable(str(file))


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(PreflightError, match=r"^/opt/none: does not exist$"):
        read_executable("/opt/none")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="is not a regular file"):
        read_executable(str(tmp_path))


def test_a_program_that_may_not_be_executed(tmp_path: Path) -> None:
    copy = tmp_path / "true"
    shutil.copy("/bin/true", copy)
    copy.chmod(0o644)
    with pytest.raises(PreflightError) as raised:
        read_executable(str(copy))
    assert raised.value.what == f"{copy}: is not executable"
    assert raised.value.hint == f"chmod +x {copy}"
