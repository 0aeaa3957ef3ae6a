"""What must be known after a restart, and who a process is."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from cluster.agents.record import InstanceRecord, start_ticks_of
from transport.errors import ConfigError, KagemushaError


def test_a_record_comes_back(tmp_path: Path) -> None:
    record = InstanceRecord("redis", "/etc/redis.toml", "mirror", 7, 0, 0, "a", "10.0.0.1:7500")
    record.save(tmp_path / "record")
    assert InstanceRecord.load(tmp_path / "record") == record
    assert list(tmp_path.iterdir()) == [tmp_path / "record"]


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"\x80")
    with pytest.raises(ConfigError, match="field 'config_file' is missing"):
        InstanceRecord.load(path)
    with pytest.raises(ConfigError, match="No such file"):
        InstanceRecord.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="No such file"):
        InstanceRecord("redis", "").save(tmp_path / "none" / "record")


def test_a_process_is_known_by_its_start() -> None:
    assert start_ticks_of(os.getpid()) > 0
    with subprocess.Popen(["sleep", "100"]) as process:
        assert start_ticks_of(process.pid) >= start_ticks_of(os.getpid())
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # Nobody has waited for it yet, and yet it is gone.
        assert start_ticks_of(process.pid) == 0
    assert start_ticks_of(process.pid) == 0


def test_a_process_that_can_not_be_looked_at_is_not_said_to_be_gone() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(KagemushaError, match=f"process {os.getpid()} can't be looked at: Too many open files"):
            start_ticks_of(os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
