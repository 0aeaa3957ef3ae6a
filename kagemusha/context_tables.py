"""A mirrored context as a person reads it: one table for each of its parts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from kagemusha.cluster_tables import size, table

Json = dict[str, Any]


def context(found: Json, sections: Collection[str] = ()) -> RenderableType:
    """The context, or only the named parts of it."""
    version = found["version"]
    head = Text.assemble((found["instance"], "bold"), f"  checkpoint {version['token']}.{version['number']}  ")
    head.append(f"{found['executable']} (pid {found['pid']} of its own) in {found['directory']}", "dim")
    parts: list[RenderableType] = [head]
    for name, render in SECTIONS.items():
        if not sections or name in sections:
            parts += [Text(f"\n{_heading(name, found)}", "bold"), render(found)]
    return Group(*parts)


def _heading(name: str, found: Json) -> str:
    omitted = found["omitted"].get(name, 0)
    return f"{name}: {len(found[name])}" + (f" ({omitted} more are not shown)" if omitted else "")


def _place(place: Json) -> str:
    if not place["mapping"]:
        return f"{place['address']:#x}"
    return f"{place['address']:#x} {place['mapping']}+{place['offset']:#x}"


def _threads(found: Json) -> RenderableType:
    made = table("tid", "name", "program counter and stack", "in call", "blocked", right=("tid", "in call"))
    for thread in found["threads"]:
        stack = "\n".join([_place(thread["program_counter"]), *(f"  {_place(frame)}" for frame in thread["frames"])])
        call = "" if thread["system_call"] is None else str(thread["system_call"])
        made.add_row(str(thread["tid"]), thread["name"], stack, call, _numbers(thread["blocked"]))
    return made


def _handlers(found: Json) -> RenderableType:
    made = table("signal", "action", "flags")
    for one in found["handlers"]:
        action = "ignored" if one["handler"] is None else _place(one["handler"])
        made.add_row(one["name"], action, " ".join(one["flags"]))
    return made


def _descriptors(found: Json) -> RenderableType:
    made = table("numbers", "kind", "what")
    for one in found["descriptors"]:
        made.add_row(_numbers(one["numbers"]), one["kind"], one["what"])
    return made


def _connections(found: Json) -> RenderableType:
    made = table("fd", "state", "local", "peer", "to send", "to read", right=("fd", "to send", "to read"))
    for one in found["connections"]:
        waiting = size(one["send_bytes"]), size(one["receive_bytes"])
        made.add_row(str(one["descriptor"]), one["state"], one["local"], one["peer"], *waiting)
    return made


def _mappings(found: Json) -> RenderableType:
    made = table("from", "to", "size", "perms", "kind", "name", right=("from", "to", "size"))
    for one in found["mappings"]:
        bounds = f"{one['start']:x}", f"{one['end']:x}", size(one["end"] - one["start"])
        made.add_row(*bounds, one["permissions"], one["kind"], one["name"])
    return made


def _numbers(values: list[int]) -> str:
    """Ascending numbers; from three in a row, the first and the last of them."""
    parts: list[str] = []
    start = 0
    for end in range(1, len(values) + 1):
        if end == len(values) or values[end] != values[end - 1] + 1:
            row = values[start:end]
            parts += [f"{row[0]}-{row[-1]}"] if len(row) > 2 else map(str, row)
            start = end
    return ", ".join(parts)


SECTIONS: dict[str, Callable[[Json], RenderableType]] = {
    "threads": _threads,
    "handlers": _handlers,
    "descriptors": _descriptors,
    "connections": _connections,
    "mappings": _mappings,
}
