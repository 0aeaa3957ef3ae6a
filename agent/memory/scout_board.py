"""The memory that an agent and its scout share: what is to be looked through, what was found, and the copied pages.

One writer for each part: the agent writes the first four words, `runs` and `private`, the scout all else. The scout
sets ANSWERED last, and the agent reads nothing before it is what was ASKED (on x86-64 others see stores in the order in
which they were made: Intel SDM, volume 3A, section 8.2).
"""

from __future__ import annotations

import mmap
import os
from typing import Final

import numpy as np

from agent.kernel.vm import Contents
from agent.memory.page_ranges import PAGE_BYTES, PAGE_WORDS, Ranges

ASKED, RUNS, PRIVATE, EDITION, READY, ANSWERED, KNOWN, COPIED, SEEN, REVERTED, MAPS = range(11)
"""Words of `Board.words`.

ASKED, ANSWERED: the number of the last question and answer. RUNS, PRIVATE: how many ranges of `runs` and `private` are
meant; EDITION changes with those of `private`. READY: 1 when the scout follows the process that it was last told of.
KNOWN: 1 if the rest is an answer. COPIED: how many ranges of `found`, from the first on, lie in the rows; SEEN: how
many follow that do not. REVERTED: how many of `private` are in `reverted`. MAPS: bytes of `maps`, 0 if they are too
many.
"""
RUNS_MAX: Final = 1024
FOUND_MAX: Final = 8192
PRIVATE_MAX: Final = 4096
ROWS_MAX: Final = 2048
_MAPS_BYTES: Final = 1 << 17

_RUNS_AT: Final = PAGE_BYTES
_FOUND_AT: Final = _RUNS_AT + RUNS_MAX * 16
_PRIVATE_AT: Final = _FOUND_AT + FOUND_MAX * 16
_REVERTED_AT: Final = _PRIVATE_AT + PRIVATE_MAX * 16
_MAPS_AT: Final = _REVERTED_AT + PRIVATE_MAX * 16
_ROWS_AT: Final = _MAPS_AT + _MAPS_BYTES
_BYTES: Final = _ROWS_AT + ROWS_MAX * PAGE_BYTES


class Board:
    """Both sides' view of it. words: see above. maps: /proc/PID/maps as it is.

    runs, private: to be looked through, and private file mappings' own pages. found, reverted: what was written in the
    ones, and which of the others are no copies any more. All uint64[n, 2], start and end. rows: one for each page.
    """

    def __init__(self, descriptor: int) -> None:
        """descriptor: of `create`, which the caller keeps."""
        self._memory = memory = mmap.mmap(descriptor, _BYTES)
        self.words = memoryview(memory)[:PAGE_BYTES].cast("Q")
        self.maps = memoryview(memory)[_MAPS_AT : _MAPS_AT + _MAPS_BYTES]
        self.runs = self._view(_RUNS_AT, RUNS_MAX, 2)
        self.found = self._view(_FOUND_AT, FOUND_MAX, 2)
        self.private = self._view(_PRIVATE_AT, PRIVATE_MAX, 2)
        self.reverted = self._view(_REVERTED_AT, PRIVATE_MAX, 2)
        self.rows = self._view(_ROWS_AT, ROWS_MAX, PAGE_WORDS)

    def touch(self) -> None:
        """Have all rows in this process's page tables, so that no copy waits for the kernel to find them."""
        self.rows[:, 0] = 0

    def _view(self, at: int, rows: int, words: int) -> Ranges | Contents:
        return np.frombuffer(self._memory, np.uint64, rows * words, at).reshape(rows, words)


def create() -> int:
    """Shared memory for a board; gives its descriptor, which the caller closes."""
    descriptor = os.memfd_create("kgm-scout", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _BYTES)
    return descriptor
