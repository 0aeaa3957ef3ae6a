"""The memory of another process: process_vm_readv(2), process_vm_writev(2), and /proc/PID/mem for what they refuse.

The vector calls are two to three times faster than /proc/PID/mem for scattered pages, but stop at pages without
permission (PROT_NONE, read-only); /proc/PID/mem ignores permissions of private mappings.
"""

from __future__ import annotations

import errno
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import TraceeGone
from agent.kernel.libc import NR, attempt, attempt_held
from agent.kernel.procfs import open_file
from agent.memory.page_ranges import NO_PAGES, PAGE_BYTES, PAGE_SHIFT, Pages, Ranges, collapse

Contents = NDArray[np.uint64]
"""uint64[n, 512], C-contiguous: one row for each page."""

Bytes = NDArray[np.uint8]
"""uint8[n], C-contiguous."""

_VECTORS: Final = 1024
_CALL_BYTES_MAX: Final = 1 << 30


class ProcessMemory:
    """Reads and writes whole pages of a process, tracee or not."""

    def __init__(self, pid: int) -> None:
        """Opens /proc/PID/mem, which belongs to the memory that the process has now: an exec ends it."""
        self.pid = pid
        self.file = open_file(pid, "mem", os.O_RDWR)
        self._local = np.zeros((1, 2), np.uint64)
        self._local_at = int(self._local.ctypes.data)

    def close(self) -> None:
        os.close(self.file)

    def read(self, of: Ranges, out: Contents, *, held: bool = True) -> Pages:
        """Read ranges into the first rows of `out`; give the pages that could not be read (their rows are zeros).

        held: keep the interpreter lock (the short reads of a stop); else other threads run meanwhile.
        Raises TraceeGone when the process has no memory any more.
        """
        return self._move(NR.PROCESS_VM_READV, of, out, held)

    def read_pages(self, pages: Pages, out: Contents) -> Pages:
        """Like `read`, of ascending page numbers."""
        return self.read(collapse(pages), out)

    def write_pages(self, pages: Pages, contents: Contents) -> Pages:
        """Write rows to ascending page numbers; give the pages that refused (shared and read-only ones)."""
        return self._move(NR.PROCESS_VM_WRITEV, collapse(pages), contents, False)

    def write_bytes(self, of: Ranges, content: Bytes) -> bool:
        """Write `content` to ranges of any length and alignment, one behind the other; whether all took it."""
        return not len(of) or not len(self._move(NR.PROCESS_VM_WRITEV, of, content, False))

    def read_bytes(self, of: Ranges, out: Bytes) -> bool:
        """Read ranges of any length and alignment into `out`, one behind the other; whether all could be read."""
        return not len(of) or not len(self._move(NR.PROCESS_VM_READV, of, out, False))

    def _move(self, number: int, of: Ranges, rows: Contents | Bytes, held: bool) -> Pages:
        vectors = np.empty((len(of), 2), np.uint64)
        vectors[:, 0] = of[:, 0]
        np.subtract(of[:, 1], of[:, 0], out=vectors[:, 1])
        ends = np.cumsum(vectors[:, 1]).astype(np.int64)
        call = attempt_held if held else attempt
        at, base = int(vectors.ctypes.data), int(rows.ctypes.data)
        failed: list[Pages] = []
        first = done = 0
        while first < len(vectors):
            last = min(first + _VECTORS, len(vectors))
            if last - first > 1 and int(ends[last - 1]) - done > _CALL_BYTES_MAX:
                last = max(first + 1, int(np.searchsorted(ends, done + _CALL_BYTES_MAX, "right")))
            wanted = int(ends[last - 1]) - done
            self._local[0] = (base + done, wanted)
            moved = call(number, self.pid, self._local_at, 1, at + 16 * first, last - first, 0)
            if moved != wanted:
                last, page = self._stumble(number, moved, vectors, ends, first, done, rows)
                if len(page):
                    failed.append(page)
            first, done = last, int(ends[last - 1])
        return np.concatenate(failed) if failed else NO_PAGES

    def _stumble(
        self,
        number: int,
        moved: int,
        vectors: Ranges,
        ends: NDArray[np.int64],
        first: int,
        done: int,
        rows: Contents | Bytes,
    ) -> tuple[int, Pages]:
        """After a short call: move the rest of the range it stopped in through /proc/PID/mem; give the next range."""
        if moved < 0 and -moved not in (errno.EFAULT, errno.ESRCH, errno.EPERM):
            moved = 0
        reached = done + max(moved, 0)
        stuck = max(first, int(np.searchsorted(ends, reached, "right")))
        begin = int(ends[stuck - 1]) if stuck else 0
        offset = reached - begin
        address, length = int(vectors[stuck, 0]) + offset, int(vectors[stuck, 1]) - offset
        view = rows.reshape(-1).view(np.uint8).data[reached : reached + length]
        refused = self._by_file(number == NR.PROCESS_VM_WRITEV, address, view)
        return stuck + 1, np.array(refused, np.uint64)

    def _by_file(self, write: bool, address: int, view: memoryview) -> list[int]:
        """Move one range through /proc/PID/mem; give the page numbers that it refuses, too."""
        refused: list[int] = []
        position, length = 0, len(view)
        while position < length:
            piece = view[position:]
            try:
                if write:
                    moved = os.pwrite(self.file, piece, address + position)
                else:
                    moved = os.preadv(self.file, [piece], address + position)
            except OSError as error:
                if error.errno not in (errno.EIO, errno.EFAULT):
                    raise TraceeGone(self.pid) from error
                moved = -1
            if moved == 0:
                raise TraceeGone(self.pid)
            if moved < 0 or moved % PAGE_BYTES:
                whole = position + max(moved, 0) // PAGE_BYTES * PAGE_BYTES
                if not write:
                    view[whole : whole + PAGE_BYTES] = bytes(PAGE_BYTES)
                refused.append((address + whole) >> PAGE_SHIFT)
                moved = whole + PAGE_BYTES - position
            position += moved
        return refused
