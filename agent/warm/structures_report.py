"""The structures of a warm instance on request: which there are, how old they are, and what is in a native one.

What is in an object of a Python program is known to that program alone.
"""

from __future__ import annotations

import asyncio
import time

from agent.structures.locating import Located
from agent.structures.shown import shown
from agent.warm.instance import WarmInstance
from transport.errors import ControlError
from transport.structure_messages import Held
from transport.structure_view import GetStructures, Structures, StructureView


async def structures_of(instance: WarmInstance, request: GetStructures) -> Structures:
    """All of them, in the order of the definition and then of the program; the content of one, if it is named.

    Raises ControlError for a name that there is not.
    """
    sources = {table.title: table.source for table in instance.definition.structures}
    sources |= {name: "program" for name in instance.program.declared if name not in sources}
    if request.name and request.name not in sources:
        hint = f"it has {', '.join(sources)}" if sources else "name it in [[structures]] of its program.toml"
        raise ControlError(f"{instance.name} has no structure {request.name}", hint=hint)
    held, age_ms = _held(instance), _age_ms(instance)
    located = {one.name: one for one in instance.program.native.located} if instance.program.native is not None else {}
    whole_bytes = instance.offering.feed.whole_bytes if instance.offering is not None else {}
    views = []
    for name, source in sources.items():
        version = held.get(name, (0, b""))[0]
        trouble, content = instance.program.refused.get(name, ""), ""
        if name == request.name and version and not trouble:
            content, trouble = await _content(instance, located.get(name), request)
        size = located[name].structure.size if name in located else whole_bytes.get(name, 0)
        views.append(StructureView(name, source, size, version, age_ms if version else None, trouble, content))
    return Structures(instance.definition.program.id, instance.name, instance.role, tuple(views))


def _held(instance: WarmInstance) -> dict[str, Held]:
    if instance.offering is not None:
        return dict(instance.offering.feed.at)
    return dict(instance.following.intake.holds) if instance.following is not None else {}


def _age_ms(instance: WarmInstance) -> float | None:
    """Of what the newest mark names."""
    mark = instance.offering.feed.marks.newest if instance.offering is not None else None
    if instance.following is not None:
        mark = instance.following.intake.reached
    return None if mark is None else max(time.time_ns() - mark.captured_ns, 0) / 1e6


async def _content(instance: WarmInstance, located: Located | None, request: GetStructures) -> tuple[str, str]:
    """The content as JSON, and why it is not shown."""
    native = instance.program.native
    if native is None or located is None:
        return "", "what is in it is known to its program alone"
    content = await native.content(request.name)
    if content is None:
        return "", "nothing of it is here yet"
    layout, size = located.structure.layout, located.structure.size
    return await asyncio.to_thread(shown, layout, content[:size], request.elements)
