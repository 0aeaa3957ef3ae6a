"""A follower's shadow: built from a program's records, kept in step with them, and prepared for the takeover."""

from __future__ import annotations

import numpy as np

from agent.context import descriptors, layout, process
from agent.context.origin import require_same_origin
from agent.errors import RestoreError
from agent.kernel.vm import Contents
from agent.launch.spawner import Spawner
from agent.memory.page_ranges import Pages
from agent.mirror import activation
from agent.mirror.shadow import Shadow
from agent.program import Definition
from transport.checkpoint import Records


class ShadowDouble:
    """See `follower.Double`. Belongs to the tracer thread."""

    def __init__(self, spawner: Spawner, records: Records) -> None:
        """Make a blank shadow with the mappings of `records`. Raises RestoreError, KernelError, LaunchError."""
        self._layout = _layout_of(records)
        self.shadow = Shadow.create(
            spawner,
            process.record_of(records).number,
            layout.decode(self._layout),
            process.shadow_clocks(records),
        )

    def adapt(self, records: Records) -> None:
        """See `follower.Double`."""
        record = _layout_of(records)
        if record != self._layout:
            self.shadow.apply_layout(layout.decode(record))
            self._layout = record

    def prepare(self, records: Records) -> None:
        """See `follower.Double`."""
        descriptors.prepare(self.shadow, records)
        activation.prepare(self.shadow, records)

    def read_pages(self, pages: Pages, out: Contents) -> None:
        """See `follower.Double`."""
        self.shadow.read_pages(pages, out)

    def write_pages(self, pages: Pages, contents: Contents) -> None:
        """See `follower.Double`."""
        if len(pages) > 1 and not (pages[1:] > pages[:-1]).all():
            order = np.argsort(pages, kind="stable")
            pages, contents = pages[order], contents[order]
        self.shadow.write_pages(pages, contents)

    @property
    def pid(self) -> int:
        """See `follower.Double`."""
        return self.shadow.pid

    def destroy(self) -> None:
        """See `follower.Double`."""
        self.shadow.destroy()


def make_double(spawner: Spawner, definition: Definition, records: Records) -> ShadowDouble:
    """In the tracer thread: a blank shadow of this program. Raises PreflightError, too: it is another program's, or
    another version of its file."""
    require_same_origin(records, definition.program.id, definition.digest())
    return ShadowDouble(spawner, records)


def _layout_of(records: Records) -> bytes:
    if layout.KEY not in records:
        raise RestoreError("a checkpoint without the layout of its memory")
    return records[layout.KEY]
