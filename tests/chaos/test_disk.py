"""A node's disk keeps over a boot what was synced, can be full, and can lose what was not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagemusha.demo.nodes import Directory, Node, new_run_id
from tests.chaos.disk import Disk
from tests.leftovers import DEMO_RUNS


@pytest.fixture
def node() -> Iterator[Node]:
    """A node that is on no bridge."""
    directory = Directory(new_run_id(), DEMO_RUNS)
    node = Node(directory, "a", 1)
    yield node
    node.close()
    directory.close(keep=False)


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
