"""A node's disk keeps over a boot what was synced, can be full, and can lose what was not."""

from __future__ import annotations

import errno
import os
import threading
from io import FileIO
from pathlib import Path

import pytest

from kagemusha.demo.nodes import Node
from tests.chaos.cgroup import Cgroup
from tests.chaos.disk import Disk


def write(path: Path, *, sync: bool) -> None:
    """A file, and whether it and its name are on the disk for certain."""
    with path.open("wb", buffering=0) as file:
        file.write(b"here")
        if sync:
            os.fsync(file.fileno())
    if sync:
        place = os.open(path.parent, os.O_RDONLY)
        os.fsync(place)
        os.close(place)


def fill(file: FileIO) -> None:
    """Far more than what is kept until later."""
    for _ in range(100):
        file.write(bytes(4096))
        os.fsync(file.fileno())


def test_what_was_synced_outlives_the_power(node: Node) -> None:
    disk = Disk(node)
    disk.make()
    write(disk.path / "synced", sync=True)
    write(disk.path / "written", sync=False)
    assert not disk.is_cut()
    disk.cut()
    assert disk.is_cut()
    node.close()
    again = Node(node.directory, "a", 1)
    try:
        disk = Disk(again)
        disk.mount()
        assert (disk.path / "synced").read_bytes() == b"here"
        assert not (disk.path / "written").exists()
    finally:
        again.close()


def test_a_disk_that_is_full_has_room_again(node: Node) -> None:
    disk = Disk(node)
    disk.make()
    disk.fill()
    assert disk.is_full()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(disk.path / "more", sync=True)
    disk.clear()
    write(disk.path / "more", sync=True)


def test_a_disk_that_hangs_goes_on(node: Node) -> None:
    disk = Disk(node)
    disk.make()
    holder = disk.hang()
    waiting = threading.Thread(target=disk.write_s)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    assert holder.stdin is not None
    holder.stdin.close()
    waiting.join()
    holder.wait()


def test_a_disk_that_is_slow_is_slow_for_whom_it_is_slow(node: Node) -> None:
    disk = Disk(node)
    disk.make()
    number = os.stat(disk.device).st_rdev
    cgroup = Cgroup("blkio", "slow-test")
    cgroup.take([], {"blkio.throttle.write_iops_device": f"{os.major(number)}:{os.minor(number)} 2"})
    try:
        assert max(disk.write_s(cgroup.list_of_processes) for _ in range(3)) > 0.4, "two writes a second"
    finally:
        cgroup.release()


def test_a_disk_that_fails_fails_and_what_had_reached_it_is_there_after_a_boot(node: Node) -> None:
    disk = Disk(node)
    disk.make()
    write(disk.path / "synced", sync=True)
    with (disk.path / "open").open("wb", buffering=0) as file:
        disk.lose()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            fill(file)
    assert disk.is_lost()
    node.close()
    again = Node(node.directory, "a", 1)
    try:
        disk = Disk(again)
        disk.mount()
        assert (disk.path / "synced").read_bytes() == b"here"
        assert not disk.is_lost()
    finally:
        again.close()
