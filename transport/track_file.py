"""The file by which keepalived is told whether this node may have the address: one character, replaced as a whole.

keepalived watches it (inotify), configured so that a missing file, an empty one and rubbish mean no
(`cluster.redirect.keepalived_text`). Daemon, agent and watchdog write it, the latter two only ever a 0.
"""

from __future__ import annotations

import os
from pathlib import Path

from transport.errors import KagemushaError


class TrackFile:
    """The file at `path`, whose directory is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def allows(self) -> bool:
        """Whether keepalived may have the address."""
        try:
            return self.path.read_bytes().strip() == b"1"
        except OSError:
            return False

    def allow(self) -> None:
        """Let keepalived have it. Raises KagemushaError."""
        self._write(b"1\n")

    def forbid(self) -> None:
        """Let it not have it; what says so already stays as it is. Raises KagemushaError."""
        try:
            if self.path.read_bytes() == b"0\n":
                return
        except OSError:
            pass
        self._write(b"0\n")

    def _write(self, content: bytes) -> None:
        # Two processes write it, each beside it under a name of its own.
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            fresh.write_bytes(content)
            fresh.rename(self.path)
        except OSError as error:
            raise KagemushaError(f"{self.path}: {error.strerror}", hint="keepalived reads it") from None
