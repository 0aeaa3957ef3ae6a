"""A node's disk: a file system of its own for what survives a boot, which can be full, slow, hang, fail, or lose what
was not synced."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from kagemusha.demo.namespace import run
from kagemusha.demo.nodes import Node
from tests.chaos.processes import NoProcess

IMAGE: Final = "disk-"
"""How the names of their files begin, in the run's directory."""
SIZE_BYTES: Final = 96 << 20
_EXT4_IOC_SHUTDOWN: Final = 0x8004587D
_NO_LOG_FLUSH: Final = 2
"""linux/fs/ext4/ext4.h: nothing more reaches the disk, not even the journal of what was written before."""
_LOOP_SET_STATUS64: Final = 0x4C04
_LOOP_GET_STATUS64: Final = 0x4C05
_LOOP_INFO_BYTES: Final = 232
_LOOP_SIZE_LIMIT_AT: Final = 32
"""linux/loop.h: struct loop_info64, lo_sizelimit."""
_HARDLY_ANYTHING_BYTES: Final = 4096
_PIECES_BYTES: Final = (1 << 20, 1 << 12, 1)
_FEW_BLOCKS: Final = 16
_PROBE: Final = """
import os, sys
if sys.argv[2]:
    open(sys.argv[2], "w").write("0")
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, b"x")
os.fsync(file)
"""
"""Arguments: a file; the cgroup's list of processes that it does it from, or nothing."""


class Disk:
    """An ext4 in a file, mounted at the node's `data`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._image = node.directory.path / f"{IMAGE}{node.name}"
        self._place = node.directory.node / "data"

    def make(self) -> None:
        """An empty one, in its place. Raises DemoError."""
        with self._image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self.mount()

    def mount(self) -> None:
        """After a boot: what had reached it is there. Raises DemoError."""
        self._node.own_path("data")[0].mkdir(exist_ok=True)
        run(*self._node.command("mount", "-o", "loop", str(self._image), str(self._place)))

    @property
    def path(self) -> Path:
        """Its root, as this process sees it. Raises NoProcess: it can be seen as long as anything runs on the node."""
        pids = self._node.network.processes()
        if not pids:
            raise NoProcess(f"nothing runs on node {self._node.name}")
        return Path(f"/proc/{pids[0]}/root{self._place}")

    def fill(self) -> None:
        """Use up what is free."""
        with self._ballast.open("wb", buffering=0) as file:
            for size in _PIECES_BYTES:
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue
            os.fsync(file.fileno())

    def is_full(self) -> bool:
        """Whether hardly a block can be had."""
        return os.statvfs(self.path).f_bavail < _FEW_BLOCKS

    def clear(self) -> None:
        """Give back what `fill` has used up."""
        self._ballast.unlink()

    def cut(self) -> None:
        """Nothing more reaches it, and what was written without a sync may be gone."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def is_cut(self) -> bool:
        """Whether nothing can be written."""
        try:
            (self.path / "probe").touch()
        except OSError:
            return True
        return False

    def lose(self) -> None:
        """The device ends behind its first block: whoever reads or writes anything else of it gets EIO, for as long as
        it is mounted (loop(4))."""
        with self.device.open("rb+", buffering=0) as loop:
            about = bytearray(fcntl.ioctl(loop, _LOOP_GET_STATUS64, bytes(_LOOP_INFO_BYTES)))
            struct.pack_into("Q", about, _LOOP_SIZE_LIMIT_AT, _HARDLY_ANYTHING_BYTES)
            fcntl.ioctl(loop, _LOOP_SET_STATUS64, bytes(about))

    def is_lost(self) -> bool:
        """Whether a write fails."""
        try:
            self.write_s()
        except subprocess.CalledProcessError:
            return True
        return False

    def hang(self) -> subprocess.Popen[bytes]:
        """Who writes waits, until the standard input of the process that this gives ends (fsfreeze(8))."""
        holder = subprocess.Popen(
            ["sh", "-c", 'fsfreeze -f "$1" && echo && cat > /dev/null; fsfreeze -u "$1"', "hang", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if holder.stdout is not None:
            with holder.stdout as said:
                said.readline()
        return holder

    def write_s(self, cgroup_procs: str = "") -> float:
        """How long a write and its sync take, from within a cgroup. Raises CalledProcessError."""
        begun_s = time.monotonic()
        words = [sys.executable, "-I", "-S", "-c", _PROBE, str(self.path / "probe"), cgroup_procs]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        return time.monotonic() - begun_s

    @property
    def device(self) -> Path:
        """The loop device that it is mounted from. Raises NoProcess, FileNotFoundError."""
        number = os.stat(self.path).st_dev
        return Path("/dev") / Path(os.readlink(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")).name

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"
