"""The program's own cgroup, by which all of it is stopped and ended at once (cgroups(7); kernel docs, cgroup-v2,
freezer-subsystem).

The v2 freezer where there is one, else the one of v1. Frozen means read back, never merely written.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cluster.fencing.process_tree import descendants
from transport.errors import KagemushaError

_NAP_S: Final = 50e-6
"""Between two looks: cgroup.events can be polled, but its events come up to 16 ms late."""
_ROUNDS_MAX: Final = 20
_REMOVED: Final = frozenset({errno.ENOENT, errno.ENODEV})
"""Of a cgroup, before and after its file was opened."""


class CgroupError(KagemushaError):
    """A cgroup can't be used."""


class ProgramCgroup:
    """One directory in the hierarchy that has the freezer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._is_v2 = not (directory / "freezer.state").exists()

    @staticmethod
    def create(name: str, mounts: Path = Path("/proc/self/mounts")) -> ProgramCgroup:
        """Make (or find) the cgroup `name`, "a/b" for one within another. Raises CgroupError: there is no freezer."""
        problem = "no cgroup hierarchy is mounted"
        for root, wanted in _hierarchies(mounts):
            directory = root / name
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                problem = f"{directory}: {error.strerror}"
                continue
            if (directory / wanted).exists():
                return ProgramCgroup(directory)
            problem = f"{directory} has no {wanted}"
            _remove(directory, root)
        raise CgroupError(problem, hint="mount cgroup2 and run as root, or a program can't be frozen as a whole")

    def add(self, pid: int) -> None:
        """Move a process and all of its descendants into this cgroup. Raises CgroupError, Unseen."""
        for _ in range(_ROUNDS_MAX):
            inside = self.processes()
            outside = [one for one in (pid, *descendants(pid)) if one not in inside]
            if not outside:
                return
            for one in outside:
                try:
                    (self.directory / "cgroup.procs").write_text(str(one))
                except ProcessLookupError:
                    continue
                except OSError as error:
                    raise CgroupError(f"{self.directory}: process {one}: {error.strerror}") from None
            if not os.path.exists(f"/proc/{pid}"):
                return
        raise CgroupError(f"{self.directory}: process {pid} makes children faster than they can be moved")

    def processes(self) -> set[int]:
        """The processes in this cgroup, but for those that have ended and are not quite gone, which it lists as 0.

        There are none where there is no such cgroup. Raises CgroupError when it can't be read.
        """
        path = self.directory / "cgroup.procs"
        try:
            return set(map(int, path.read_text().split())) - {0}
        except OSError as error:
            if error.errno in _REMOVED:
                return set()
            raise CgroupError(f"{path}: {error.strerror}", hint="has the node memory and descriptors left?") from None

    def freeze(self) -> None:
        """Begin to stop every process; see `await_frozen`. Raises CgroupError."""
        self._write("1" if self._is_v2 else "FROZEN")

    def thaw(self) -> None:
        """Let every process go on. Raises CgroupError."""
        self._write("0" if self._is_v2 else "THAWED")

    def is_frozen(self) -> bool:
        """Whether every process stands still, as the kernel says."""
        try:
            if self._is_v2:
                return "frozen 1" in (self.directory / "cgroup.events").read_text().splitlines()
            return (self.directory / "freezer.state").read_text().strip() == "FROZEN"
        except OSError:
            return False

    def await_frozen(self, limit_s: float) -> bool:
        """Wait for `is_frozen` until `limit_s` of CLOCK_MONOTONIC, asleep in between: what is to stop needs the CPU."""
        while not self.is_frozen():
            if time.monotonic() >= limit_s:
                return False
            time.sleep(_NAP_S)
        return True

    def kill(self) -> None:
        """End every process, frozen or not; they are gone some moments later. Raises CgroupError."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        # Under v1 a signal waits for the thaw; no instruction of the program's own is executed before it.
        self.thaw()

    def remove(self) -> None:
        """Remove the cgroup; it stays while there is a process in it."""
        try:
            self.directory.rmdir()
        except OSError:
            pass

    def _write(self, word: str) -> None:
        name = "cgroup.freeze" if self._is_v2 else "freezer.state"
        try:
            (self.directory / name).write_text(word)
        except OSError as error:
            raise CgroupError(f"{self.directory / name}: {error.strerror}") from None


def _hierarchies(mounts: Path) -> Iterator[tuple[Path, str]]:
    """Where a freezer may be, the best first: (mount point, the file that it has)."""
    lines = [line.split() for line in mounts.read_text().splitlines()]
    for line in lines:
        if line[2] == "cgroup2":
            yield Path(line[1]), "cgroup.freeze"
    for line in lines:
        if line[2] == "cgroup" and "freezer" in line[3].split(","):
            yield Path(line[1]), "freezer.state"


def _remove(directory: Path, root: Path) -> None:
    while directory != root:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
