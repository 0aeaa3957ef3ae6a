"""What daemon, agents and watchdog of one node take for the time: a library (`shifted.c`) that is preloaded into them
reads from a file by how much their clocks are off. The machine's own clocks, and the mirrored program's, are as they
were."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Final

from kagemusha.demo.nodes import Directory, Node
from tests.chaos.evidence import NS_PER_S
from tests.compiled import compiled

_NAME: Final = "clocks"
_SHIFTS: Final = struct.Struct("qq")


class NodeClocks:
    """Set while the processes run; all are right at first."""

    def __init__(self, node: Node) -> None:
        self._file, self._as_seen = node.own_path(_NAME)
        self._library = _library(node.directory)
        self._file.write_bytes(_SHIFTS.pack(0, 0))

    @property
    def environment(self) -> dict[str, str]:
        """Of processes that go by these clocks."""
        return {"LD_PRELOAD": str(self._library), "KGM_CLOCKS": str(self._as_seen)}

    def is_used_by(self, pid: int) -> bool:
        """Whether a process reads its clocks here."""
        return str(self._as_seen) in Path(f"/proc/{pid}/maps").read_text()

    def set_wall(self, by_s: float) -> None:
        """CLOCK_REALTIME is off by so much from now on."""
        self._write(int(by_s * NS_PER_S), self._read()[1])

    def sleep(self, for_s: float) -> None:
        """What a suspend leaves behind: CLOCK_BOOTTIME has gone on by so much, CLOCK_MONOTONIC has not; nor did the
        wall clock stand still."""
        wall_ns, boot_ns = self._read()
        self._write(wall_ns + int(for_s * NS_PER_S), boot_ns + int(for_s * NS_PER_S))

    def _read(self) -> tuple[int, int]:
        wall_ns, boot_ns = _SHIFTS.unpack(self._file.read_bytes())
        return wall_ns, boot_ns

    def _write(self, wall_ns: int, boot_ns: int) -> None:
        # In place: the processes have mapped this very file.
        with self._file.open("rb+", buffering=0) as file:
            file.write(_SHIFTS.pack(wall_ns, boot_ns))


def _library(directory: Directory) -> Path:
    """It lies in the run's directory, which every node sees."""
    place = directory.path / "shifted.so"
    if not place.exists():
        shutil.copy(compiled(Path(__file__).parent / "shifted.c", "-shared", "-fPIC"), place)
    return place
