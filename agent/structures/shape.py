"""What of a structure is mirrored, what speaks against it, and how it is compared with another build's. Pure."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.errors import StructureError
from agent.structures.layout import Array, Bound, Enumeration, Excluded, Layout, Member, Opaque, Record, Scalar

Extents: TypeAlias = NDArray[np.int64]
"""int64[n, 2]: begin and end of byte ranges within the structure, ascending and apart."""

Line: TypeAlias = tuple[str, str]
"""A member's name, "entries[].id", and what it is and where."""


# ---- excluding


def exclude(layout: Layout, name: str, paths: Iterable[str]) -> Layout:
    """The layout of structure `name` without the members of these paths, "NAME.entries.lock" or "NAME.entries[].lock".

    A member of an anonymous union stands for the whole union. Raises StructureError for a path that leads to no member
    (near ones are offered), or to one that shares its bytes with others: a bit field, an alternative of a union.
    """
    for path in paths:
        words = [word for word in re.sub(r"\[[^\]]*\]", "", path).split(".") if word]
        own = [word for word in name.split(".") if word]
        if words[: len(own)] != own or len(words) == len(own):
            raise StructureError(f'exclude "{path}" is no member of {name}', hint=f'begin it with "{name}."')
        layout = _without(layout, words[len(own) :], name, path)
    return layout


def _without(layout: Layout, words: Sequence[str], where: str, path: str) -> Layout:
    if isinstance(layout, Array):
        return replace(layout, element=_without(layout.element, words, where + "[]", path))
    found = _find(layout, words[0]) if isinstance(layout, Record) else None
    if found is None or not isinstance(layout, Record):
        names = [one.name for one in _named(layout)] if isinstance(layout, Record) else []
        near = difflib.get_close_matches(words[0], names, 3, 0.5)
        hint = "do you mean " + " or ".join(near) + "?" if near else "it has " + (", ".join(names) or "no members")
        raise StructureError(f'exclude "{path}": {where} has no member {words[0]}', hint=hint)
    at, member = found
    if member.name != words[0] and isinstance(member.type, Record) and member.type.is_union:
        inner: Layout = Excluded(member.type.size)
    elif member.name != words[0]:
        inner = _without(member.type, words, where, path)
    elif len(words) > 1:
        inner = _without(member.type, words[1:], f"{where}.{words[0]}", path)
    elif layout.is_union or member.bits is not None:
        what = "an alternative of a union" if layout.is_union else "a bit field"
        raise StructureError(
            f'exclude "{path}": it is {what} and shares its bytes with others', hint=f"exclude {where} as a whole"
        )
    else:
        inner = Excluded(member.type.size)
    return replace(layout, members=(*layout.members[:at], replace(member, type=inner), *layout.members[at + 1 :]))


def _find(layout: Record, name: str) -> tuple[int, Member] | None:
    """The member of that name, or the anonymous one that has it."""
    for at, member in enumerate(layout.members):
        if member.name == name or (
            not member.name and isinstance(member.type, Record) and any(one.name == name for one in _named(member.type))
        ):
            return at, member
    return None


def _named(layout: Record) -> Iterator[Member]:
    for member in layout.members:
        if member.name:
            yield member
        elif isinstance(member.type, Record):
            yield from _named(member.type)


# ---- objections


@dataclass(frozen=True, slots=True)
class Objection:
    """A member that can't be mirrored. path: "g_sessions.entries[].lock"; what: "a pthread_mutex_t"."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} is {self.what}"


def objections(layout: Layout, name: str) -> list[Objection]:
    """Every member of structure `name` that means something in its own process only, in their order."""
    if isinstance(layout, Bound):
        return [Objection(name, layout.what)]
    if isinstance(layout, Array):
        return objections(layout.element, name + "[]") if layout.count else []
    if isinstance(layout, Record):
        return [one for member in layout.members for one in _objections_to(member, _join(name, member.name))]
    return []


def _objections_to(member: Member, name: str) -> list[Objection]:
    found = objections(member.type, name)
    if found and member.name and isinstance(member.type, Record) and member.type.is_union:
        # It can only be excluded as a whole.
        return [Objection(name, f"a union, of which {found[0].path} is {found[0].what}")]
    return found


def refuse(layout: Layout, name: str) -> None:
    """Raise StructureError when something speaks against mirroring the structure."""
    found = objections(layout, name)
    if found:
        more = f", and {len(found) - 1} more members can't be mirrored" if len(found) > 1 else ""
        paths = ", ".join(f'"{one.path}"' for one in found[:8]) + (", ..." if len(found) > 8 else "")
        hint = f"leave out what the mirror keeps as its own: exclude = [{paths}]"
        if found[0].path.removesuffix("[]") == name:
            hint = "name what it leads to, if that is a variable"
        raise StructureError(f"{found[0]}: it would mean nothing in another process{more}", hint=hint)


def _join(name: str, member: str) -> str:
    return f"{name}.{member}" if member else name


# ---- extents


def mirrored(layout: Layout) -> Extents:
    """The byte ranges that are mirrored: all of the structure but what is excluded."""
    holes = _holes(layout)
    edges = np.concatenate((np.zeros(1, np.int64), holes.reshape(-1), np.array([layout.size], np.int64)))
    found = edges.reshape(-1, 2)
    return np.ascontiguousarray(found[found[:, 0] < found[:, 1]])


def _holes(layout: Layout) -> Extents:
    """The excluded ranges, ascending and apart."""
    if isinstance(layout, Excluded):
        return np.array([[0, layout.size]], np.int64)
    if isinstance(layout, Array):
        inner = _holes(layout.element)
        starts = np.arange(layout.count, dtype=np.int64) * layout.element.size
        return _joined((starts[:, None, None] + inner[None]).reshape(-1, 2))
    if isinstance(layout, Record):
        several = [_holes(member.type) + member.offset for member in layout.members]
        found = np.concatenate([np.empty((0, 2), np.int64), *several])
        return _joined(found[np.argsort(found[:, 0], kind="stable")])
    return np.empty((0, 2), np.int64)


def _joined(extents: Extents) -> Extents:
    """Ranges that touch, made one."""
    if len(extents) < 2:
        return extents
    heads = np.flatnonzero(np.concatenate(([True], extents[1:, 0] > extents[:-1, 1])))
    ends = np.append(heads[1:] - 1, len(extents) - 1)
    return np.stack((extents[heads, 0], extents[ends, 1]), axis=1)


def member_at(layout: Layout, name: str, offset: int) -> str:
    """The innermost member of structure `name` that has the byte at `offset`: "g_sessions.entries[3].id"."""
    if isinstance(layout, Array) and layout.element.size and offset < layout.size:
        at, within = divmod(offset, layout.element.size)
        return member_at(layout.element, f"{name}[{at}]", within)
    if isinstance(layout, Record):
        for member in layout.members:
            if member.offset <= offset < member.offset + member.type.size:
                return member_at(member.type, _join(name, member.name), offset - member.offset)
    return name


# ---- comparing


def describe(layout: Layout) -> list[Line]:
    """Everything that must be the same on both sides, members first, in their order: names, offsets, sizes, encodings.

    Names of types are not among it, nor is anything that is excluded.
    """
    lines = list(_lines(layout, "", 0))
    return lines if lines and not lines[0][0] else [*lines, ("", f"{layout.size} bytes")]


def digest(lines: Iterable[Line]) -> str:
    """SHA-256 of a description, in hex: equal layouts have equal ones."""
    found = hashlib.sha256()
    for name, what in lines:
        found.update(f"{name}\0{what}\n".encode())
    return found.hexdigest()


def first_difference(here: Sequence[Line], there: Sequence[Line], name: str) -> str:
    """The first member of structure `name` in which two descriptions differ; "" if they are the same."""
    known_here, known_there = dict(here), dict(there)
    for mine, other in zip_longest(here, there):
        if mine == other:
            continue
        if mine is not None and mine[0] not in known_there:
            return f"{_join_path(name, mine[0])} is not there on the other side"
        if other is not None and other[0] not in known_here:
            return f"{_join_path(name, other[0])} is only there on the other side"
        path = (mine or other or ("", ""))[0]
        if known_here[path] != known_there[path]:
            return f"{_join_path(name, path)} is {known_here[path]} here, and {known_there[path]} on the other side"
        return f"the members of {name} are in another order on the other side"
    return ""


def _join_path(name: str, path: str) -> str:
    return name + path if path.startswith("[") or not path else f"{name}.{path}"


def _lines(layout: Layout, path: str, offset: int, bits: tuple[int, int] | None = None) -> Iterator[Line]:
    place = f"at {offset}" if bits is None else f"bits {bits[0]} to {bits[0] + bits[1] - 1} at {offset}"
    if isinstance(layout, Array):
        inner = _text(layout.element)
        yield f"{path}[]", f"{layout.count} of {inner or f'{layout.element.size} bytes'} {place}"
        if not inner:
            yield from _lines(layout.element, f"{path}[]", 0)
    elif isinstance(layout, Record):
        for member in layout.members:
            name = f"{path}.{member.name}" if path and member.name else member.name or path
            yield from _lines(member.type, name, offset + member.offset, member.bits)
    elif not isinstance(layout, Excluded):
        yield path, f"{_text(layout)} {place}"


def _text(layout: Layout) -> str:
    """What a member is that has no members of its own; "" for one that has."""
    if isinstance(layout, Scalar):
        # 16 bytes of floating point are two things (x87 and quad), and only their names tell.
        precision = f" {layout.name}" if layout.encoding in ("float", "complex", "bytes") and layout.size > 8 else ""
        return f"{layout.size} bytes {layout.encoding}{precision}"
    if isinstance(layout, Enumeration):
        sign = "signed" if layout.is_signed else "unsigned"
        return f"{layout.size} bytes {sign}, one of {', '.join(f'{name}={value}' for name, value in layout.values)},"
    if isinstance(layout, Opaque):
        return f"{layout.size} bytes of unknown meaning" + (f" of build {layout.build}" if layout.build else "")
    return layout.what if isinstance(layout, Bound) else ""
