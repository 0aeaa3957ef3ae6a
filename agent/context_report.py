"""The context of an instance on request: records and stacks are read in the tracer thread, the rest is done outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from agent.context import layout
from agent.context_view import context_view, stack_pages
from agent.instance import Instance
from agent.kernel.vm import Contents
from agent.memory.page_ranges import Pages
from transport.checkpoint import NOTHING, Records, Version
from transport.context_schema import Context
from transport.errors import ControlError


@dataclass(slots=True)
class _Held:
    """What an instance holds of its newest checkpoint: records, and the pages of its stacks by number."""

    version: Version = NOTHING
    records: Records = field(default_factory=dict)
    pages: dict[int, bytes] = field(default_factory=dict)


async def context_of(instance: Instance) -> Context:
    """The schema of the newest checkpoint that the instance has taken or holds.

    Raises ControlError before the first one, RestoreError for records that are none.
    """
    held = await instance.around.tracer.call(lambda: _read(instance))
    if held.version == NOTHING or layout.KEY not in held.records:
        what = f"{instance.name} has no context yet: no checkpoint is complete"
        raise ControlError(what, hint="wait until it is mirrored")
    program = instance.definition.program.id
    return context_view(program, instance.name, held.version, held.records, held.pages.get)


def _read(instance: Instance) -> _Held:
    """In the tracer thread."""
    if instance.serving is not None:
        encoder = instance.serving.publication.encoder
        return _with_stacks(encoder.version, encoder.history.records, encoder.image.read)
    follower = instance.follower
    if follower is not None and follower.double is not None and follower.version != NOTHING:
        return _with_stacks(follower.version, follower.held.records, follower.double.read_pages)
    return _Held()


def _with_stacks(version: Version, records: Records, read: Callable[[Pages, Contents], None]) -> _Held:
    held = _Held(version, dict(records))
    if layout.KEY in records:
        numbers = stack_pages(records)
        contents = np.zeros((len(numbers), 512), np.uint64)
        if numbers:
            read(np.array(numbers, np.uint64), contents)
        held.pages = {number: contents[row].tobytes() for row, number in enumerate(numbers)}
    return held
