"""What programs write goes to the node's log, labelled by instance: lines of files that grow, are replaced or cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

READ_BYTES: Final = 64 << 10
LINE_BYTES_MAX: Final = 8 << 10
"""A longer line is told in pieces."""


class OutputTail:
    """Follows one file from where it ends now. tell: gets each whole line, without its end."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._rest = b""
        self._inode, self._offset = self._where()

    def read(self) -> None:
        """Tell what was added since; at most READ_BYTES, so that a talkative program does not stop the daemon."""
        inode, size = self._where()
        if inode != self._inode or size < self._offset:
            self._inode, self._offset, self._rest = inode, 0, b""
        if size == self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(READ_BYTES)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._tell(line.decode(errors="replace").rstrip("\r"))

    def _where(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)
        except OSError:
            return 0, 0
        return status.st_ino, status.st_size
