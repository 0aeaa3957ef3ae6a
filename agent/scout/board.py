"""The memory that an agent and its scout share: what is asked, what was found, and the copied pages.

One writer for each part: the agent writes the first eight words, `runs`, `private` and the requests, the scout all
else. The scout sets ANSWERED last, and the agent reads nothing before it is what was ASKED (on x86-64 others see stores
in the order in which they were made: Intel SDM, volume 3A, section 8.2).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Final

import numpy as np

from agent.kernel.sock_diag import REQUEST_BYTES, SOCKET
from agent.kernel.vm import Contents
from agent.memory.page_ranges import PAGE_BYTES, PAGE_WORDS, Ranges

ASKED, RUNS, PRIVATE, PRIVATE_EDITION, CONNECTIONS, CONNECTIONS_EDITION = range(6)
READY, ANSWERED, KNOWN, COPIED, SEEN, REVERTED, MAPS, ROWS_ANSWERED, ROWS_KNOWN = range(8, 17)
"""Words of `Board.words`; the first line the agent's, the second the scout's.

ASKED, ANSWERED, ROWS_ANSWERED: the number of the last question and of the last answers, about the memory and about the
connections. RUNS, PRIVATE, CONNECTIONS: how many of `runs`, `private` and `requests` are meant; an EDITION changes with
what it counts. READY: 1 when the scout follows the process that it was last told of. KNOWN, ROWS_KNOWN: 1 if the answer
is one. COPIED: how many ranges of `found`, from the first on, lie in the rows; SEEN: how many follow that do not.
REVERTED: how many of `private` are in `reverted`. MAPS: bytes of `maps`, 0 if they are too many.
"""
RUNS_MAX: Final = 1024
FOUND_MAX: Final = 8192
PRIVATE_MAX: Final = 4096
CONNECTIONS_MAX: Final = 2048
ROWS_MAX: Final = 2048
_MAPS_BYTES: Final = 1 << 17


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


_RUNS_AT: Final = PAGE_BYTES
_FOUND_AT: Final = _RUNS_AT + RUNS_MAX * 16
_PRIVATE_AT: Final = _FOUND_AT + FOUND_MAX * 16
_REVERTED_AT: Final = _PRIVATE_AT + PRIVATE_MAX * 16
_MAPS_AT: Final = _REVERTED_AT + PRIVATE_MAX * 16
_REQUESTS_AT: Final = _MAPS_AT + _MAPS_BYTES
_CONNECTIONS_AT: Final = _REQUESTS_AT + CONNECTIONS_MAX * REQUEST_BYTES
_ROWS_AT: Final = _pages(_CONNECTIONS_AT + CONNECTIONS_MAX * SOCKET.itemsize)
_BYTES: Final = _ROWS_AT + ROWS_MAX * PAGE_BYTES


class Board:
    """Both sides' view of it. words: see above. maps: /proc/PID/maps as it is.

    runs, private: to be looked through, and private file mappings' own pages. found, reverted: what was written in the
    ones, and which of the others are no copies any more. All uint64[n, 2], start and end. rows: one for each page.
    connections: what sock_diag says of those that are asked about, dtype SOCKET.
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
        self.connections = np.frombuffer(memory, SOCKET, CONNECTIONS_MAX, _CONNECTIONS_AT)
        self._requests = memoryview(memory)[_REQUESTS_AT:_CONNECTIONS_AT]
        self.rows = self._view(_ROWS_AT, ROWS_MAX, PAGE_WORDS)

    def touch(self) -> None:
        """Have all rows in this process's page tables, so that no copy waits for the kernel to find them."""
        self.rows[:, 0] = 0

    def write_requests(self, bodies: Sequence[bytes]) -> None:
        """What is asked about connections; see `agent.kernel.sock_diag.request_one`."""
        joined = b"".join(bodies)
        self._requests[: len(joined)] = joined
        self.words[CONNECTIONS] = len(bodies)

    def read_requests(self) -> list[bytes]:
        """What was written."""
        ends = range(REQUEST_BYTES, (self.words[CONNECTIONS] + 1) * REQUEST_BYTES, REQUEST_BYTES)
        return [bytes(self._requests[end - REQUEST_BYTES : end]) for end in ends]

    def _view(self, at: int, rows: int, words: int) -> Ranges | Contents:
        return np.frombuffer(self._memory, np.uint64, rows * words, at).reshape(rows, words)


def create() -> int:
    """Shared memory for a board; gives its descriptor, which the caller closes."""
    descriptor = os.memfd_create("kgm-scout", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _BYTES)
    return descriptor
