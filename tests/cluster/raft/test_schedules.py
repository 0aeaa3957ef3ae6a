"""Random schedules of crashes, partitions and broken links under a virtual clock: nothing acknowledged is lost, states
are equal, and the lease has one holder at a time. The seed is in the test's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.raft.simulation import World


@pytest.mark.parametrize("seed", range(12))
def test_a_schedule_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    world = World(tmp_path, seed)
    monkeypatch.setattr("os.fsync", world.sync)
    monkeypatch.setattr("os.fdatasync", world.sync)
    monkeypatch.setattr("pysyncobj.syncobj.monotonicTime", lambda: world.now_s)
    monkeypatch.setattr("cluster.raft.consensus.monotonic", lambda: world.now_s)
    try:
        world.run(8.0)
    finally:
        world.close()
    assert world.acknowledged
    assert world.leaders
