"""A cgroup (version 1) for some processes of a node, for as long as a fault lasts (linux, admin-guide/cgroup-v1)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.leftovers import is_left

_ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("blkio", "cpu", "freezer", "memory")
_UNDONE = {"freezer.state": "THAWED", "memory.limit_in_bytes": "-1", "cpu.cfs_quota_us": "-1"}
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

    def take_all(self, pids: Iterable[int], knobs: Mapping[str, str]) -> None:
        """The same for all that there are of a kind; who has ended since they were looked for is passed over."""
        self.take((), knobs)
        for pid in pids:
            with suppress(ProcessLookupError):
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
        _release(self._path)


def clear_crashed_cgroups() -> None:
    """Remove those of runs that were killed; who is still in one, and waits there, goes on."""
    for controller in _CONTROLLERS:
        for path in (_ROOT / controller).glob("kgm-*-*"):
            # What has cgroups within it is no fault's.
            if is_left(path.name) and not any(one.is_dir() for one in path.iterdir()):
                with suppress(FileNotFoundError):  # Another run clears up, too.
                    _undo(path)
                    _release(path)


def _undo(path: Path) -> None:
    for file, value in _UNDONE.items():
        if (path / file).exists():
            (path / file).write_text(value)


def _release(path: Path) -> None:
    end_s = time.monotonic() + _EMPTY_S
    while pids := (path / "cgroup.procs").read_text().split():
        for pid in pids:
            try:
                (path.parent / "cgroup.procs").write_text(pid)
            except ProcessLookupError:
                continue  # It has ended since.
        if time.monotonic() > end_s:
            break
        time.sleep(_LOOK_AGAIN_S)
    path.rmdir()
