"""A variable's type from a file's debug information (DWARF 5 standard, chapter 5; versions 2 to 4 say the same)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from elftools.common.exceptions import DWARFError, ELFError
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DWARFInfo

from agent.errors import StructureError
from agent.structures.elf_file import Symbol
from agent.structures.layout import Array, Bound, Encoding, Enumeration, Layout, Member, Record, Scalar

_ADDRESS: Final = 0x03
"""DW_OP_addr"""
_ENCODINGS: Final[dict[int, Encoding]] = {
    0x02: "boolean",
    0x03: "complex",
    0x04: "float",
    0x05: "signed",
    0x06: "signed",
    0x07: "unsigned",
    0x08: "unsigned",
    0x10: "text",
}
"""DW_ATE_* (7.8); plain char is signed or not by the machine, and text in either case."""
_SAME: Final = {
    "DW_TAG_const_type",
    "DW_TAG_volatile_type",
    "DW_TAG_restrict_type",
    "DW_TAG_atomic_type",
    "DW_TAG_packed_type",
    "DW_TAG_immutable_type",
}
_POINTERS: Final = {
    "DW_TAG_pointer_type": "a pointer",
    "DW_TAG_reference_type": "a reference",
    "DW_TAG_rvalue_reference_type": "a reference",
    "DW_TAG_ptr_to_member_type": "a pointer to a member",
}
_RECORDS: Final = {"DW_TAG_structure_type", "DW_TAG_class_type", "DW_TAG_union_type"}
_SPLIT: Final = {"DW_AT_dwo_name", "DW_AT_GNU_dwo_name"}
_OWN: Final = {
    "pthread_mutex_t",
    "pthread_rwlock_t",
    "pthread_cond_t",
    "pthread_spinlock_t",
    "pthread_barrier_t",
    "pthread_once_t",
    "pthread_key_t",
    "pthread_t",
    "sem_t",
    "mtx_t",
    "cnd_t",
    "thrd_t",
    "tss_t",
    "once_flag",
    "fd_set",
    "jmp_buf",
    "sigjmp_buf",
    "timer_t",
}
"""Types of C that mean something in their own process only, be they made of integers or not."""
_OWN_STD: Final = {
    "mutex",
    "recursive_mutex",
    "timed_mutex",
    "recursive_timed_mutex",
    "shared_mutex",
    "shared_timed_mutex",
    "condition_variable",
    "condition_variable_any",
    "once_flag",
    "thread",
    "jthread",
}
"""The same of C++, in namespace std."""


def layout_of(dwarf: DWARFInfo, symbol: Symbol) -> Layout | None:
    """The type of the variable, or None where the debug information says nothing of it (its unit has none).

    Raises StructureError for a type that can't be read, or whose size is not the symbol's.
    """
    try:
        variable = _variable_at(dwarf, symbol)
        if variable is None:
            _refuse_split(dwarf, symbol)
            return None
        layout = _TypeReader().read(_follow(variable, "DW_AT_type"))
    except (DWARFError, ELFError, NotImplementedError, KeyError) as error:
        raise StructureError(
            f"the debug information of {symbol.name} can't be read: {error}",
            hint="build it with -g alone: neither -gsplit-dwarf nor dwz",
        ) from error
    if layout.size != symbol.size:
        raise StructureError(
            f"{symbol.name} has {symbol.size} bytes, its type {layout.size}",
            hint="a flexible array at its end can't be mirrored; else its debug information is of another build",
        )
    return layout


# ---- the variable


def _variable_at(dwarf: DWARFInfo, symbol: Symbol) -> DIE | None:
    """The entry of the variable at the symbol's address: first outside of functions, where nearly all are."""
    units = list(dwarf.iter_CUs())
    # A static variable's unit is known, by the name of its file.
    units.sort(key=lambda unit: not (symbol.unit and _name(unit.get_top_DIE()).endswith(symbol.unit)))
    for deep in (False, True):
        for unit in units:
            for one in _variables(unit.get_top_DIE(), deep):
                if _address(one) == symbol.address:
                    return _declared(one)
    return None


def _refuse_split(dwarf: DWARFInfo, symbol: Symbol) -> None:
    """A unit whose types are in a file of its own (-gsplit-dwarf) may be the variable's."""
    for unit in dwarf.iter_CUs():
        if _SPLIT & unit.get_top_DIE().attributes.keys():
            raise StructureError(
                f"the debug information of {symbol.name} may be in a .dwo file, which is not read",
                hint="build it without -gsplit-dwarf",
            )


def _variables(parent: DIE, deep: bool) -> Iterator[DIE]:
    for one in parent.iter_children():
        if one.tag == "DW_TAG_variable":
            yield one
        elif one.tag == "DW_TAG_namespace" or (deep and one.tag in ("DW_TAG_subprogram", "DW_TAG_lexical_block")):
            yield from _variables(one, deep)


def _address(variable: DIE) -> int | None:
    location = variable.attributes.get("DW_AT_location")
    if location is None or location.form not in ("DW_FORM_exprloc", "DW_FORM_block1", "DW_FORM_block"):
        return None
    code = bytes(location.value)
    return int.from_bytes(code[1:9], "little") if len(code) == 9 and code[0] == _ADDRESS else None


def _declared(variable: DIE) -> DIE | None:
    """The entry that bears the type: its definition may only refer to its declaration. None: there is none (-g1)."""
    while "DW_AT_type" not in variable.attributes:
        links = [name for name in ("DW_AT_specification", "DW_AT_abstract_origin") if name in variable.attributes]
        if not links:
            return None
        variable = _follow(variable, links[0])
    return variable


def _name(entry: DIE) -> str:
    attribute = entry.attributes.get("DW_AT_name")
    return attribute.value.decode("utf-8", "backslashreplace") if attribute is not None else ""


def _follow(entry: DIE, attribute: str) -> DIE:
    """The entry that an attribute refers to."""
    reference = entry.attributes[attribute]
    if reference.form == "DW_FORM_ref_sig8":
        # A type unit (7.5.1.3); before DWARF 5 they have a section of their own, which the library searches.
        for unit in entry.dwarfinfo.iter_CUs():
            if unit.header.get("type_signature") == reference.value:
                return unit.get_DIE_from_refaddr(unit.cu_offset + unit.header["type_offset"])
    return entry.get_DIE_from_attribute(attribute)


# ---- the type


class _TypeReader:
    """Reads type entries; each once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Layout] = {}

    def read(self, entry: DIE) -> Layout:
        key = (id(entry.cu), entry.offset)
        if key not in self._known:
            self._known[key] = self._read(entry)
        return self._known[key]

    def _read(self, entry: DIE) -> Layout:
        if "DW_AT_signature" in entry.attributes:
            return self.read(_follow(entry, "DW_AT_signature"))
        name = _name(entry)
        if name in _OWN or (name in _OWN_STD and _is_in_std(entry)):
            return Bound(self._size(entry), f"a {name}" if name in _OWN else f"a std::{name}")
        if entry.tag in _POINTERS:
            return self._pointer(entry)
        if entry.tag == "DW_TAG_typedef" or entry.tag in _SAME:
            return self._aim(entry)
        if entry.tag in _RECORDS:
            return self._record(entry)
        if entry.tag == "DW_TAG_array_type":
            return self._array(entry)
        if entry.tag == "DW_TAG_enumeration_type":
            return self._enumeration(entry)
        if entry.tag == "DW_TAG_base_type":
            return self._scalar(entry, name)
        if entry.tag == "DW_TAG_unspecified_type":
            return Bound(8, f"a {name}")
        raise StructureError(f"a type of kind {entry.tag} is not known", hint="exclude the member that has it")

    def _aim(self, entry: DIE) -> Layout:
        if "DW_AT_type" not in entry.attributes:
            raise StructureError(f"{_name(entry) or 'a type'} is void", hint="exclude the member that has it")
        return self.read(_follow(entry, "DW_AT_type"))

    def _size(self, entry: DIE) -> int:
        while "DW_AT_byte_size" not in entry.attributes:
            if entry.tag == "DW_TAG_array_type":
                return self._array(entry).size
            entry = _follow(entry, "DW_AT_type")
        return int(entry.attributes["DW_AT_byte_size"].value)

    def _pointer(self, entry: DIE) -> Bound:
        what = _POINTERS[str(entry.tag)]
        size = int(entry.attributes["DW_AT_byte_size"].value) if "DW_AT_byte_size" in entry.attributes else 8
        if what == "a pointer" and "DW_AT_type" in entry.attributes:
            aim = _follow(entry, "DW_AT_type")
            if aim.tag == "DW_TAG_subroutine_type":
                what = "a pointer to a function"
            elif _name(aim) == "__vtbl_ptr_type":
                what = "a pointer to the virtual functions of its class"
        return Bound(size, what)

    def _scalar(self, entry: DIE, name: str) -> Scalar:
        encoding = _ENCODINGS.get(entry.attributes["DW_AT_encoding"].value)
        size = self._size(entry)
        if encoding is None:
            return Scalar("bytes", size, name)
        return Scalar("text" if name == "char" else "unsigned" if name == "std::byte" else encoding, size, name)

    def _enumeration(self, entry: DIE) -> Enumeration:
        values = tuple(
            (_name(one), int(one.attributes["DW_AT_const_value"].value))
            for one in entry.iter_children()
            if one.tag == "DW_TAG_enumerator"
        )
        is_signed = any(value < 0 for _, value in values)
        if "DW_AT_type" in entry.attributes:
            under = self.read(_follow(entry, "DW_AT_type"))
            is_signed = isinstance(under, Scalar) and under.encoding in ("signed", "text")
        return Enumeration(self._size(entry), is_signed, values)

    def _array(self, entry: DIE) -> Layout:
        layout = self._aim(entry)
        counts = [_count(one) for one in entry.iter_children() if one.tag == "DW_TAG_subrange_type"]
        for count in reversed(counts):
            layout = Array(layout, count)
        return layout

    def _record(self, entry: DIE) -> Record:
        if "DW_AT_declaration" in entry.attributes:
            raise StructureError(
                f"{_name(entry)} is only declared where it is used",
                hint="build the unit that defines it with -g, and C++ with -fno-eliminate-unused-debug-types",
            )
        members = tuple(self._member(one) for one in entry.iter_children() if _is_within(one))
        return Record(self._size(entry), members, entry.tag == "DW_TAG_union_type")

    def _member(self, entry: DIE) -> Member:
        layout = self._aim(entry)
        if entry.tag == "DW_TAG_inheritance":
            name = _name(_follow(entry, "DW_AT_type"))
            if "DW_AT_virtuality" in entry.attributes:
                return Member(name, 0, Bound(layout.size, "a virtual base class"))
            return Member(name, _offset(entry), layout)
        # gcc calls it "_vptr.shape", which would read as a member of a member.
        name = _name(entry).partition(".")[0] if "DW_AT_artificial" in entry.attributes else _name(entry)
        return Member(name, *_place(entry, layout))


def _is_in_std(entry: DIE) -> bool:
    parent = entry.get_parent()
    while parent is not None and parent.tag == "DW_TAG_namespace":
        if _name(parent) == "std":
            return True
        parent = parent.get_parent()
    return False


def _is_within(entry: DIE) -> bool:
    """Whether it takes up room in each object: a member that is not static, or a base class."""
    if entry.tag == "DW_TAG_inheritance":
        return True
    return bool(entry.tag == "DW_TAG_member") and not {"DW_AT_external", "DW_AT_declaration"} & entry.attributes.keys()


def _offset(entry: DIE) -> int:
    place = entry.attributes.get("DW_AT_data_member_location")
    if place is None:
        return 0
    if not isinstance(place.value, int):
        # DWARF 2 has an expression: DW_OP_plus_uconst and a number in LEB128.
        return sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(place.value[1:]))
    return int(place.value)


def _place(entry: DIE, layout: Layout) -> tuple[int, Layout, tuple[int, int] | None]:
    """Offset, type and bits of a member."""
    have = entry.attributes
    if "DW_AT_bit_size" not in have:
        return _offset(entry), layout, None
    width = int(have["DW_AT_bit_size"].value)
    if "DW_AT_data_bit_offset" in have:
        first = 8 * _offset(entry) + int(have["DW_AT_data_bit_offset"].value)
    else:
        # DWARF 3 counts from the most significant bit of the storage unit.
        unit = int(have["DW_AT_byte_size"].value) if "DW_AT_byte_size" in have else layout.size
        first = 8 * (_offset(entry) + unit) - int(have["DW_AT_bit_offset"].value) - width
    return first // 8, layout, (first % 8, width)


def _count(subrange: DIE) -> int:
    have = subrange.attributes
    if "DW_AT_count" in have:
        return int(have["DW_AT_count"].value)
    bound = have.get("DW_AT_upper_bound")
    # None is a flexible array; so is gcc's bound of -1.
    if bound is None or bound.form in ("DW_FORM_exprloc", "DW_FORM_block1") or int(bound.value) in (-1, 2**64 - 1):
        return 0
    return int(bound.value) + 1
