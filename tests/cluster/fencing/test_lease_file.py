"""What one process writes, the other reads; and half of what is written is never taken for all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.fencing.lease_file import FILE_BYTES, HEADER_BYTES, SLOTS, Fencing, LeaseFile, Watched
from transport.errors import ConfigError

REDIS = Watched("redis", 7, 4711, "10.0.0.100/24", "eth0", "/sys/fs/cgroup/kagemusha/redis")


def test_what_is_put_is_read(tmp_path: Path) -> None:
    daemon, watchdog = LeaseFile(tmp_path / "leases"), LeaseFile(tmp_path / "leases")
    assert [watchdog.watched(slot) for slot in range(SLOTS)] == [None] * SLOTS
    daemon.put(SLOTS - 1, REDIS)
    daemon.extend(SLOTS - 1, 2**63)
    assert watchdog.watched(SLOTS - 1) == REDIS
    assert watchdog.deadline_ns(SLOTS - 1) == 2**63
    watchdog.answer(SLOTS - 1, Fencing(7, True, False, 5))
    assert daemon.fencing(SLOTS - 1) == Fencing(7, True, False, 5)
    assert daemon.returns(SLOTS - 1) == 0
    watchdog.let_go_on(SLOTS - 1)
    assert daemon.fencing(SLOTS - 1) is None
    assert daemon.returns(SLOTS - 1) == 1
    assert daemon.returns(0) == 0
    watchdog.beat(99)
    assert daemon.beat_ns == 99
    daemon.clear(SLOTS - 1)
    assert watchdog.watched(SLOTS - 1) is None
    assert (tmp_path / "leases").stat().st_size == FILE_BYTES


def test_a_daemon_that_died_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    daemon = LeaseFile(path)
    daemon.put(0, REDIS)
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES] |= 1
    path.write_bytes(data)
    again = LeaseFile(path)
    with pytest.raises(BlockingIOError):
        again.watched(0)
    again.put(0, REDIS)
    assert again.watched(0) == REDIS


def test_names_have_their_limits(tmp_path: Path) -> None:
    leases = LeaseFile(tmp_path / "leases")
    with pytest.raises(ValueError, match="more than 16 bytes"):
        leases.put(0, Watched("redis", 1, 1, "", "x" * 17, ""))
    with pytest.raises(ValueError, match="there is no slot"):
        leases.clear(SLOTS)


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_bytes(b"something else")
    with pytest.raises(ConfigError, match="is no file of leases"):
        LeaseFile(path)
    with pytest.raises(ConfigError, match="No such file"):
        LeaseFile(tmp_path / "none" / "leases")
