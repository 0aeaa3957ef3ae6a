"""A structure that is a file: shared memory (`/dev/shm`), or what a program maps or writes.

Nothing tells what changed of a file, since other processes may write to it as well: it is read whole within each stop,
about 0.25 ms for each MiB. It is never mapped here: a file that is cut short would end the agent (SIGBUS, mmap(2)).
"""

from __future__ import annotations

import os
import stat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import StructureError
from agent.memory.page_ranges import Ranges
from agent.structures.blocks import BLOCK_BYTES, count_blocks
from agent.structures.finding import Structure
from agent.structures.layout import Opaque
from agent.structures.update import Original, Update

_FULL: Final = "name a file that has its full size from the start on"
_READ_MAX: Final = 1 << 30


class RegularFile:
    """The file at a path as it was when this was opened; another one at the same path is another structure."""

    def __init__(self, path: str, name: str = "", *, writable: bool = False, size: int = 0) -> None:
        """size: that it must have; 0: any. Raises StructureError when it is not there, not regular, or empty."""
        self.path, self.name = path, name or path
        try:
            # Without waiting: a pipe without a reader would keep the agent waiting for ever.
            flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDWR if writable else os.O_RDONLY)
            self._descriptor = os.open(path, flags)
        except OSError as error:
            raise StructureError(
                f"{path}: {error.strerror}",
                hint="the program must have made it, on a mirror too",
            ) from error
        found = os.fstat(self._descriptor)
        self._identity = (found.st_dev, found.st_ino)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            os.close(self._descriptor)
            raise StructureError(
                f"{path} is {'empty' if stat.S_ISREG(found.st_mode) else 'no regular file'}",
                hint=_FULL,
            )
        if size and self.size != size:
            os.close(self._descriptor)
            raise StructureError(f"{path} has {self.size} bytes, and had {size}", hint=_FULL)

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def structure(self) -> Structure:
        """Its bytes, of which nothing is known but their number."""
        return Structure(self.name, Opaque(self.size))

    def check(self) -> None:
        """Raise StructureError when there is another file at the path by now, or it has another size."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise StructureError(f"{self.path}: {error.strerror}", hint="the program has removed it") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise StructureError(
                f"{self.path} is another file by now", hint="the program must keep the one that it has"
            )
        if found.st_size != self.size:
            raise StructureError(
                f"{self.path} has {found.st_size} bytes, and had {self.size}",
                hint=_FULL,
            )

    def read(self, out: NDArray[np.uint8]) -> None:
        """Its whole content, into an array of its size. Raises StructureError when it has become shorter."""
        view = out.data
        at = 0
        while at < len(view):
            moved = os.preadv(self._descriptor, [view[at : at + _READ_MAX]], at)
            if not moved:
                raise StructureError(f"{self.path} has {at} bytes, and had {self.size}", hint="it was cut short")
            at += moved

    # ---- as what a mirror is written into

    def write_bytes(self, of: Ranges, content: NDArray[np.uint8]) -> bool:
        """Write to ranges of it, one behind the other; whether all took it."""
        at = 0
        for begin, end in of.tolist():
            while begin < end:
                try:
                    moved = os.pwrite(self._descriptor, content[at : at + end - begin].data, begin)
                except OSError:
                    return False
                begin, at = begin + moved, at + moved
        return True

    def read_bytes(self, of: Ranges, out: NDArray[np.uint8]) -> bool:
        """Read ranges of it, one behind the other; whether all are there."""
        at = 0
        for begin, end in of.tolist():
            while begin < end:
                moved = os.preadv(self._descriptor, [out[at : at + end - begin].data], begin)
                if not moved:
                    return False
                begin, at = begin + moved, at + moved
        return True


class FileCapture:
    """One file, and what its mirrors were last told of it. Used as a `Capture` is."""

    def __init__(self, file: RegularFile, original: Original) -> None:
        """Takes the file over."""
        self.original = original
        self.name = file.name
        self._file = file
        count = count_blocks(file.size)
        self._all = np.arange(count, dtype=np.uint64)
        # Touched now: what is touched first within a stop makes it longer.
        self._raw = np.full(count * BLOCK_BYTES, 1, np.uint8)
        self._raw[file.size :] = 0
        self._is_read = False

    def close(self) -> None:
        self._file.close()

    def look(self) -> None:
        """Before the stop: see that it is still the same file. Raises StructureError."""
        self._file.check()

    def copy(self) -> None:
        """Within the stop: read it."""
        self._file.read(self._raw[: self._file.size])
        self._is_read = True

    def update(self) -> Update | None:
        """After the stop: what leads from the last update to what was read; None if nothing changed."""
        if not self._is_read:
            return None
        self._is_read = False
        return self.original.advance(self._all, self._raw.view(np.uint64).reshape(len(self._all), -1))
