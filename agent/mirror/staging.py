"""Where a mirror keeps the verified pages of a checkpoint until it may apply it.

Pages stay here decoded, so that nothing can go wrong with them after the acknowledgement; the memory is touched before,
so that it is there. It grows to the largest checkpoint that came and is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.kernel.vm import Contents
from agent.memory.page_buffer import PageBuffer
from agent.memory.page_ranges import NO_PAGES, Pages
from transport.checkpoint import PART_PAGES
from transport.delta import PagePartDecoder

ReadPages = Callable[[Pages, Contents], None]
"""Fill rows with what is held of pages now; pages that are not there read as zeros."""


class Staging:
    """Decodes page parts against what is held, and keeps the results."""

    def __init__(self, pages_max: int) -> None:
        """`pages_max`: most pages of one checkpoint; a larger one raises CaptureError when it is staged."""
        self._decoder = PagePartDecoder()
        self._base = PageBuffer(PART_PAGES, PART_PAGES).rows
        self._results = PageBuffer(pages_max, PART_PAGES)
        self._numbers: list[Pages] = []
        self._filled = 0

    @property
    def touched_bytes(self) -> int:
        """Memory that the staged pages take, now or at the largest checkpoint so far."""
        return self._results.touched_bytes

    def add(self, part: bytes, read: ReadPages) -> int:
        """Verify one part against the base and keep its result; gives the number of pages. Raises CorruptUpdate."""
        decoded = self._decoder.decode(part)
        count = len(decoded.pages)
        self._results.need(self._filled + count)
        out = self._results.rows[self._filled : self._filled + count]
        base: Contents | None = None
        if not decoded.absolute:
            base = self._base[:count]
            read(decoded.pages, base)
        decoded.resolve(base, out)
        self._numbers.append(decoded.pages.copy())
        self._filled += count
        return count

    def pages(self) -> tuple[Pages, Contents]:
        """All staged pages, in the order in which they came, and their contents."""
        numbers = np.concatenate(self._numbers) if self._numbers else NO_PAGES
        return numbers, self._results.rows[: self._filled]

    def clear(self) -> None:
        """Nothing is staged."""
        self._numbers.clear()
        self._filled = 0
