"""Named structures as a person reads them: a table of all, and the content of one as an indented tree. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from kagemusha.cluster_tables import age, size, table

Json = dict[str, Any]


def structures(found: Json) -> RenderableType:
    """All structures of an instance, and below them what was asked for."""
    made = table("structure", "where", "size", "version", "age", "trouble", right=("size", "version", "age"))
    parts: list[RenderableType] = [Text.assemble((found["instance"], "bold"), f"  {found['role']}"), made]
    for one in found["structures"]:
        known = size(one["size_bytes"]) if one["size_bytes"] else "-"
        numbers = known, str(one["version"] or "-"), age(one["age_ms"])
        made.add_row(one["name"], one["source"], *numbers, Text(one["trouble"], "red"))
        if one["content"] is not None:
            parts.append(Text("\n".join(lines(one["name"], one["content"]))))
    return Group(*parts)


def lines(name: str, value: Any, indent: int = 0) -> Iterator[str]:
    """One line for each value; what has members of its own is followed by them."""
    margin = "  " * indent
    if isinstance(value, dict) and value:
        yield f"{margin}{name}"
        for key, inner in value.items():
            yield from lines(key, inner, indent + 1)
    elif isinstance(value, list) and any(isinstance(one, (dict, list)) for one in value):
        yield f"{margin}{name}"
        for at, inner in enumerate(value):
            yield from lines(f"[{at}]", inner, indent + 1)
    else:
        yield f"{margin}{name} = {_word(value)}"


def _word(value: Any) -> str:
    if value is None:
        return "(left out)"
    if isinstance(value, list):
        return f"[{', '.join(map(_word, value))}]"
    return repr(value) if isinstance(value, str) else str(value)
