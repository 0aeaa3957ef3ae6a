"""Types of real programs: what of them is mirrored, refused, excluded, and told from another build's."""

from __future__ import annotations

import pytest

from agent.errors import StructureError
from agent.structures import shape
from agent.structures.elf_file import ElfFile
from agent.structures.finding import Structure, examine
from tests.agent.structures.built import built

LOCKS = "g_sessions.entries.lock"


def structure(*source: str, wanted: str, exclude: tuple[str, ...] = ()) -> Structure:
    with ElfFile(built(*source)) as elf:
        return examine(elf, wanted, exclude=exclude)


def refusal(*source: str, wanted: str, exclude: tuple[str, ...] = ()) -> StructureError:
    with pytest.raises(StructureError) as found:
        structure(*source, wanted=wanted, exclude=exclude)
    return found.value


@pytest.mark.parametrize("option", ["-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5"])
def test_every_version_of_debug_information_says_the_same(option: str) -> None:
    strict = ("-gstrict-dwarf",) if option == "-gdwarf-2" else ()
    assert structure("types.c", option, *strict, wanted="g_plain") == structure("types.c", "-g", wanted="g_plain")


@pytest.mark.parametrize("option", ["-gdwarf-4", "-gdwarf-5"])
def test_types_in_units_of_their_own_are_found(option: str) -> None:
    apart = structure("types.c", option, "-fdebug-types-section", wanted="g_plain")
    assert apart == structure("types.c", "-g", wanted="g_plain")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("g_node", "g_node.next is a pointer"),
        ("g_nodes", "g_nodes[].next is a pointer"),
        ("g_handler", "g_handler.call is a pointer to a function"),
        ("g_locked", "g_locked.entries[].lock is a pthread_mutex_t"),
        ("g_choosing", "g_choosing.either is a union, of which g_choosing.either.text is a pointer"),
        ("g_pointer", "g_pointer is a pointer"),
    ],
)
def test_what_means_nothing_elsewhere_is_refused_by_name(wanted: str, said: str) -> None:
    assert refusal("types.c", "-g", wanted=wanted).what.startswith(said + ": ")


def test_every_refused_member_is_named() -> None:
    hint = refusal("types.c", "-g", wanted="g_several").hint
    assert hint.endswith(
        '["g_several.spin", "g_several.sem", "g_several.rw", "g_several.thread", "g_several.set", "g_several.jump"]'
    )


@pytest.mark.parametrize("wanted", ["g_node", "g_nodes", "g_handler", "g_locked", "g_several", "g_choosing"])
def test_the_hint_of_a_refusal_works(wanted: str) -> None:
    hint = refusal("types.c", "-g", wanted=wanted).hint
    paths = tuple(word.strip('[], "') for word in hint.partition("exclude = ")[2].split(","))
    assert structure("types.c", "-g", wanted=wanted, exclude=paths).lines


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("exchange::safe", "exchange::safe.lock is a std::mutex"),
        ("exchange::figure", "exchange::figure._vptr is a pointer to the virtual functions of its class"),
        ("exchange::entry", "exchange::entry.name._M_dataplus._M_p is a pointer"),
    ],
)
def test_what_cplusplus_adds_is_refused_by_name(wanted: str, said: str) -> None:
    assert refusal("classes.cc", "-g", wanted=wanted).what.startswith(said)


def test_a_class_has_the_members_of_its_base_and_no_static_ones() -> None:
    lines = structure("classes.cc", "-g", wanted="exchange::book").lines
    assert [path for path, _ in lines[:4]] == ["base.id", "price", "way", "levels._M_elems[]"]
    assert structure("classes.cc", "-g", wanted="exchange::order::made").size == 4


def test_what_is_excluded_is_not_mirrored() -> None:
    found = structure("types.c", "-g", wanted="g_locked", exclude=("g_locked.entries.lock", "g_locked.entries[].cond"))
    assert found.extents.tolist() == [[0, 16], [104, 120], [208, 224], [312, 328], [416, 424]]
    whole = structure("types.c", "-g", wanted="g_plain")
    assert whole.extents.tolist() == [[0, 160]]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("g_plain.pric", 'exclude "g_plain.pric": g_plain has no member pric; do you mean price or precise or pair?'),
        ("g_plain.flag.x", 'exclude "g_plain.flag.x": g_plain.flag has no member x; it has no members'),
        ("g_other.flag", 'exclude "g_other.flag" is no member of g_plain; begin it with "g_plain."'),
        ("g_plain", 'exclude "g_plain" is no member of g_plain; begin it with "g_plain."'),
        ("g_plain.high", 'exclude "g_plain.high": it is a bit field and shares its bytes with others'),
    ],
)
def test_a_wrong_exclusion_is_refused(path: str, said: str) -> None:
    error = refusal("types.c", "-g", wanted="g_plain", exclude=(path,))
    assert f"{error.what}; {error.hint}".startswith(said)


def test_a_member_of_an_anonymous_union_stands_for_the_union() -> None:
    found = structure("types.c", "-g", wanted="g_plain", exclude=("g_plain.inner.as_int", "g_plain.inner[].low"))
    assert found.extents.tolist() == [[0, 116], [121, 128], [133, 160]]


def test_another_build_with_the_same_layout_is_accepted() -> None:
    here = structure("sessions.c", "-g", "-O0", wanted="g_sessions", exclude=(LOCKS,))
    there = structure("sessions.c", "-g3", "-O2", wanted="g_sessions", exclude=(LOCKS,))
    assert here.digest == there.digest
    here.check_same(there.lines)


def test_another_layout_is_refused_by_its_first_member() -> None:
    here = structure("sessions.c", "-g", wanted="g_sessions", exclude=(LOCKS,))
    there = structure("sessions.c", "-g", "-DOTHER_LAYOUT", wanted="g_sessions", exclude=(LOCKS,))
    assert here.digest != there.digest
    with pytest.raises(StructureError) as found:
        here.check_same(there.lines)
    assert found.value.what == (
        "g_sessions has another layout on the other side: g_sessions.entries[].note is only there on the other side"
    )
    with pytest.raises(StructureError) as found:
        here.check_same([line for line in there.lines if not line[0].endswith("note")])
    assert found.value.what.endswith(
        "g_sessions.entries[].urgent is 4 bytes unsigned bits 0 to 0 at 28 here, "
        "and 4 bytes unsigned bits 0 to 0 at 30 on the other side"
    )
    fewer = structure("sessions.c", "-g", "-DCOUNT=10", wanted="g_sessions", exclude=(LOCKS,))
    with pytest.raises(StructureError, match=r"g_sessions\.entries\[\] is 1000 of 80 bytes at 8 here, and 10 of"):
        here.check_same(fewer.lines)


def test_lines_in_another_order_are_another_layout() -> None:
    lines = structure("types.c", "-g", wanted="g_plain").lines
    assert shape.first_difference(lines, lines[::-1], "x") == "the members of x are in another order on the other side"
    assert shape.first_difference(lines, lines, "x") == ""


@pytest.mark.parametrize(
    ("offset", "member"),
    [
        (0, "g_plain.flag"),
        (9, "g_plain.text[3]"),
        (99, "g_plain.grid[0][2]"),
        (117, "g_plain.inner[0].as_int"),
        (133, "g_plain.inner[1].high"),
        (46, "g_plain"),
        (159, "g_plain.huge"),
        (400, "g_plain"),
    ],
)
def test_each_byte_has_a_member(offset: int, member: str) -> None:
    found = structure("types.c", "-g", wanted="g_plain")
    assert shape.member_at(found.layout, "g_plain", offset) == member
