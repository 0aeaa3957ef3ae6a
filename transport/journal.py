"""The journal of systemd, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram is one entry.

Nobody waits for it: an entry that the journal does not take at once is lost, and the next one says so. A daemon that
waited for its log would let leases end.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/systemd/journal/socket")
VARIABLE: Final = "KAGEMUSHA_JOURNAL"
"""Set by a daemon that logs to the journal, for its agents and its watchdog: their stderr is a file."""
PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Of syslog(3), by level."""
_VALUE_BYTES_MAX: Final = 16_384
_LENGTH: Final = struct.Struct("<Q")


def is_stderr(environment: Mapping[str, str]) -> bool:
    """Whether this process's stderr goes to the journal: systemd.exec(5), `JOURNAL_STREAM`."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Journal:
    """Opened ahead. path: for tests. Raises OSError where there is no journal."""

    def __init__(self, identifier: str, path: Path = SOCKET) -> None:
        self.lost = 0
        self._identifier = identifier
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def send(self, message: str, level: str, fields: Mapping[str, str]) -> bool:
        """Write one entry; whether it was taken. Names of fields: A to Z, 0 to 9, _, not first."""
        entry = {
            "MESSAGE": message,
            "PRIORITY": str(PRIORITIES.get(level, 6)),
            "SYSLOG_IDENTIFIER": self._identifier,
            **fields,
        }
        if self.lost:
            entry["KAGEMUSHA_LOST"] = str(self.lost)
        try:
            self._socket.send(b"".join(_field(name, value) for name, value in entry.items()))
        except OSError:
            self.lost += 1
            return False
        self.lost = 0
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _field(name: str, value: str) -> bytes:
    content = value.encode(errors="replace")[:_VALUE_BYTES_MAX]
    if b"\n" not in content:
        return name.encode() + b"=" + content + b"\n"
    return name.encode() + b"\n" + _LENGTH.pack(len(content)) + content + b"\n"
