"""A cgroup (version 1) for some processes of a node, for as long as a fault lasts (linux, admin-guide/cgroup-v1)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_EMPTY_S = 2.0
_LOOK_AGAIN_S = 0.005


class Cgroup:
    """Of one controller. Raises OSError where the machine has none, or a process is gone."""

    def __init__(self, controller: str, name: str) -> None:
        self._parent = _ROOT / controller
        self._path = self._parent / f"kgm-{os.getpid()}-{name}"

    def take(self, pids: Iterable[int], knobs: Mapping[str, str]) -> None:
        """Make it, set its knobs, and move these processes into it with all their threads; their children follow by
        birth."""
        self._path.mkdir()
        for file, value in knobs.items():
            self.write(file, value)
        for pid in pids:
            (self._path / "cgroup.procs").write_text(str(pid))

    def write(self, file: str, value: str) -> None:
        """Set a knob of the controller's."""
        (self._path / file).write_text(value)

    def read(self, file: str) -> str:
        """What a file of the controller's says."""
        return (self._path / file).read_text().strip()

    @property
    def list_of_processes(self) -> str:
        """The file that moves whoever writes its pid (or 0: itself) into it."""
        return str(self._path / "cgroup.procs")

    def release(self) -> None:
        """Move everybody back, and remove it."""
        end_s = time.monotonic() + _EMPTY_S
        while pids := self.read("cgroup.procs").split():
            for pid in pids:
                try:
                    (self._parent / "cgroup.procs").write_text(pid)
                except ProcessLookupError:
                    continue  # It has ended since.
            if time.monotonic() > end_s:
                break
            time.sleep(_LOOK_AGAIN_S)
        self._path.rmdir()
