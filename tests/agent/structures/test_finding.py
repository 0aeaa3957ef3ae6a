"""Variables of real programs: found by name, placed under ASLR, and refused in one clear line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.errors import StructureError
from agent.structures.elf_file import ElfFile
from agent.structures.finding import examine, find
from agent.structures.symbol_name import readable
from tests.agent.structures.built import built, running

TYPES = ("types.c", "-g")


def refusal(program: Path, wanted: str) -> str:
    with ElfFile(program, name=program.name) as elf, pytest.raises(StructureError) as found:
        examine(elf, wanted)
    return f"{found.value.what}; {found.value.hint}"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("g_plian", "there is no variable g_plian in types; do you mean g_plain or g_pointer?"),
        ("qqqq", "there is no variable qqqq in types; nm lists what there is"),
        ("main", "main in types is a function; name a variable"),
        ("g_constant", "g_constant in types is constant; a mirror has the same already"),
        ("g_names", "g_names in types is constant; a mirror has the same already"),
        ("other.c:lonely", "there is no variable other.c:lonely in types; lonely is in types.c"),
    ],
)
def test_what_can_not_be_found_is_said_in_one_line(wanted: str, said: str) -> None:
    assert refusal(built(*TYPES), wanted) == said


def test_a_thread_local_variable_is_refused() -> None:
    assert "is thread-local: every thread has one of its own" in refusal(built(*TYPES), "g_thread_local")


def test_a_static_variable_of_a_function_is_found_by_its_symbol() -> None:
    with ElfFile(built(*TYPES)) as elf:
        assert examine(elf, "calls.0").lines == (("", "4 bytes signed at 0"),)


def test_one_name_in_two_units_is_told_by_the_unit() -> None:
    program = built("second.c", "first.c", "-g")
    said = refusal(program, "entries")
    assert said == (
        "entries exists 2 times in second: first.c, second.c; "
        'name one with its unit: "first.c:entries" or "second.c:entries"'
    )
    with ElfFile(program) as elf:
        assert examine(elf, "own_to_first").size == 4
        assert examine(elf, "first.c:entries").lines[0] == ("first", "4 bytes unsigned at 0")
        assert examine(elf, "second.c:entries").lines[0] == ("second[]", "3 of 2 bytes unsigned at 0")


def test_a_stripped_program_is_refused_unless_its_symbols_are_exported() -> None:
    program = built(*TYPES, "-s", name="stripped")
    assert refusal(program, "g_plain") == (
        "g_plain can't be found: stripped is stripped of its symbol table; "
        "build it without -s, don't strip it, or install its debug symbols"
    )
    exported = built(*TYPES, "-s", "-rdynamic")
    with ElfFile(exported) as elf:
        assert examine(elf, "g_plain").size == 160


def test_without_debug_information_only_the_same_build_is_accepted() -> None:
    plain, other = built("types.c", "-O1"), built("types.c", "-O2")
    with ElfFile(plain, name="types") as one, ElfFile(plain) as same, ElfFile(other) as another:
        structure = examine(one, "g_node")
        assert structure.size == 16
        assert "has no debug information of it" in structure.remarks[0]
        structure.check_same(examine(same, "g_node").lines)
        with pytest.raises(StructureError, match="of build"):
            structure.check_same(examine(another, "g_node").lines)
        with pytest.raises(StructureError, match="nothing can be excluded"):
            examine(one, "g_node", exclude=["g_node.next"])


def test_debug_information_in_a_file_of_its_own_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "types"
    with ElfFile(built(*TYPES)) as elf:
        build = elf.build
    debug = tmp_path / "debug" / build[:2] / f"{build[2:]}.debug"
    debug.parent.mkdir(parents=True)
    for options, target in ((["--only-keep-debug"], debug), (["--strip-all"], program)):
        subprocess.run(["objcopy", *options, str(built(*TYPES)), str(target)], check=True)
    monkeypatch.setattr("agent.structures.elf_file.DEBUG_DIRECTORY", tmp_path / "debug")
    with ElfFile(program) as elf, ElfFile(built(*TYPES)) as whole:
        assert examine(elf, "g_plain") == examine(whole, "g_plain")


@pytest.mark.parametrize("options", [("-g", "-gz"), ("-g", "-O2", "-flto"), ("-g", "-static"), ("-ggdb3", "-Os")])
def test_however_it_was_built_the_type_is_the_same(options: tuple[str, ...]) -> None:
    exclude = ["g_sessions.entries.lock"]
    with ElfFile(built("sessions.c", "-g")) as plain, ElfFile(built("sessions.c", *options)) as other:
        assert examine(other, "g_sessions", exclude=exclude) == examine(plain, "g_sessions", exclude=exclude)


def test_debug_information_without_types_is_none() -> None:
    with ElfFile(built("types.c", "-g1")) as elf:
        assert examine(elf, "g_plain").remarks


@pytest.mark.parametrize("option", ["-gdwarf-4", "-gdwarf-5"])
def test_split_debug_information_is_refused(option: str) -> None:
    assert refusal(built("types.c", option, "-gsplit-dwarf"), "g_plain") == (
        "the debug information of g_plain may be in a .dwo file, which is not read; build it without -gsplit-dwarf"
    )


def test_no_elf_file_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(StructureError, match="is no ELF file"):
        ElfFile(script)
    with pytest.raises(StructureError, match="No such file"):
        ElfFile(tmp_path / "absent")


@pytest.mark.parametrize(
    "options", [("-g",), ("-g", "-no-pie"), ("-g", "-static-pie"), ("-g", "-Wl,-z,noseparate-code")]
)
def test_the_address_in_a_running_program(options: tuple[str, ...]) -> None:
    with running(built("sessions.c", *options)) as victim:
        victim.tell("w 3 77 1.5")
        place = find(victim.pid, "g_sessions", exclude=["g_sessions.entries.lock"])
        with open(f"/proc/{victim.pid}/mem", "rb") as memory:
            memory.seek(place.address)
            assert int.from_bytes(memory.read(8), "little") == 1
            # The entry's own id.
            memory.seek(place.address + 8 + 3 * (place.structure.size - 8) // 1000)
            assert int.from_bytes(memory.read(8), "little") == 77


def test_a_variable_that_the_executable_took_over_from_its_library() -> None:
    library = built("library.c", "-g", "-shared", "-fPIC", name="libbook.so.1")
    program = built("second.c", "first.c", str(library), "-g", "-DWITH_LIBRARY", f"-Wl,-rpath,{library.parent}")
    with running(program) as victim:
        assert victim.tell("") == "2 30"
        taken, own = (
            find(victim.pid, "lib_book", library="libbook.so"),
            find(victim.pid, "own_book", library="libbook.so"),
        )
        with open(f"/proc/{victim.pid}/mem", "rb") as memory:
            memory.seek(taken.address)
            assert int.from_bytes(memory.read(8), "little") == 2
            memory.seek(own.address)
            assert int.from_bytes(memory.read(8), "little") == 7
        with pytest.raises(StructureError, match=r"has not loaded libpage\.so") as found:
            find(victim.pid, "lib_book", library="libpage.so")
        assert "libbook.so.1" in found.value.hint
        with pytest.raises(StructureError, match="there is no variable lib_bok"):
            find(victim.pid, "lib_bok", library=str(library))


def test_a_variable_of_an_executable_that_was_replaced_since(tmp_path: Path) -> None:
    program = tmp_path / "sessions"
    program.write_bytes(built("sessions.c", "-g").read_bytes())
    program.chmod(0o755)
    with running(program) as victim:
        before = find(victim.pid, "g_sessions", exclude=["g_sessions.entries.lock"])
        program.unlink()
        assert find(victim.pid, "g_sessions", exclude=["g_sessions.entries.lock"]) == before


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("_ZN8exchange4bookE", "exchange::book"),
        ("_ZN8exchange12_GLOBAL__N_16hiddenE", "exchange::(anonymous namespace)::hidden"),
        ("_ZL5table", "table"),
        ("_ZN8exchangeL4bookE", "exchange::book"),
        ("_ZN8exchangeIiE4bookE", "_ZN8exchangeIiE4bookE"),
        ("_ZN99bookE", "_ZN99bookE"),
        ("table", "table"),
    ],
)
def test_names_of_cplusplus(name: str, shown: str) -> None:
    assert readable(name) == shown
