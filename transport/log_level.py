"""How much a node's processes log now: a file in the directory that a boot empties, read again when it has changed.

The daemon writes it, its agents read it too, without being told. A level holds until a time of CLOCK_BOOTTIME, after
which everything is as it was: nobody has to remember to take it back, and no restart of a daemon forgets it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, get_args

from transport.clock import boottime_s
from transport.errors import KagemushaError

LevelName = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[LevelName, ...]] = get_args(LevelName)
DEFAULT: Final[LevelName] = "info"
_RANKS: Final = {name: rank for rank, name in enumerate(LEVELS)} | {"critical": len(LEVELS), "exception": 3}
_FILE: Final = "log-level"


class LogLevel:
    """run: the node's directory. A file that can't be read, or is none, means the default."""

    def __init__(self, run: Path) -> None:
        self._path = run / _FILE
        self._seen: tuple[int, int, int] | None = None
        self._level: LevelName = DEFAULT
        self._until_s = 0.0

    def set(self, level: LevelName, for_s: int) -> None:
        """Log so much from now on, for so long. Raises KagemushaError when that can't be written."""
        beside = self._path.with_name(f".{_FILE}.{os.getpid()}")
        try:
            beside.write_text(f"{level} {boottime_s() + for_s:.3f}\n", encoding="ascii")
            os.replace(beside, self._path)
        except OSError as error:
            raise KagemushaError(f"{self._path}: can't be written: {error.strerror}", hint="make room there") from None

    def now(self) -> tuple[LevelName, float]:
        """The level, and for how many seconds it holds; 0.0: without end, it is the default."""
        self._look()
        left_s = self._until_s - boottime_s()
        return (self._level, left_s) if left_s > 0 else (DEFAULT, 0.0)

    def admits(self, method: str) -> bool:
        """Whether what is logged by that method ("info") is to be seen."""
        return _RANKS.get(method, len(LEVELS)) >= _RANKS[self.now()[0]]

    def _look(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            if seen == self._seen:
                return
            level, until = self._path.read_text(encoding="ascii").split()
            self._seen, self._until_s = seen, float(until)
            self._level = next(one for one in LEVELS if one == level)
        except (OSError, ValueError, StopIteration):
            self._seen, self._level, self._until_s = None, DEFAULT, 0.0
