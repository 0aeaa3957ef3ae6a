"""Random schedules of crashes, partitions and broken links under a virtual clock: nothing acknowledged is lost, states
are equal, and the lease has one holder at a time. The seed is in the test's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.raft.errors import StorageError
from cluster.raft.gate import Gate
from cluster.raft.journal import Journal
from tests.cluster.raft.simulation import Broken, Ledger, World

Sync = Callable[[World, int], None]


def run(
    directory: Path, monkeypatch: pytest.MonkeyPatch, seed: int, sync: Sync = World.sync, stalls: float | None = None
) -> World:
    """One schedule, to its end. sync: what fsync is in it. Raises Broken; SystemExit: a state machine differs."""
    directory.mkdir(exist_ok=True)
    world = World(directory, seed)
    world.stalls = world.stalls if stalls is None else stalls
    for name in ("os.fsync", "os.fdatasync"):
        monkeypatch.setattr(name, lambda descriptor: sync(world, descriptor))
    monkeypatch.setattr("pysyncobj.syncobj.monotonicTime", lambda: world.now_s)
    monkeypatch.setattr("cluster.raft.consensus.monotonic", lambda: world.now_s)
    try:
        world.run(8.0)
    finally:
        world.close()
    return world


@pytest.mark.parametrize("seed", range(12))
def test_a_schedule_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    world = run(tmp_path, monkeypatch, seed)
    assert world.acknowledged
    assert world.leaders


def test_without_syncs_what_was_agreed_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first bytes of each file come to the disk; the power fails as before."""

    def only_once(world: World, descriptor: int) -> None:
        status = os.fstat(descriptor)
        world._synced.setdefault(status.st_ino, status.st_size)

    for seed in (5, 7, *range(12)):
        try:
            run(tmp_path / str(seed), monkeypatch, seed, only_once)
        except (Broken, SystemExit):
            return
        except StorageError:
            # A member that finds its journal cut refuses to start, which ends this schedule and shows nothing.
            continue
    pytest.fail("no seed shows it")


def _loses(directory: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a schedule shows that something agreed is lost, or is something else elsewhere. Disks stall often."""
    for seed in range(30):
        try:
            run(directory / str(seed), monkeypatch, seed, stalls=0.4)
        except (Broken, SystemExit):
            return True
    return False


def test_what_is_promised_before_the_disk_has_it_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "offer", lambda gate, peer, message, promised, now_s: message)
    assert _loses(tmp_path, monkeypatch)


def test_a_leader_that_counts_what_its_disk_has_not_loses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "durable_index", property(lambda journal: journal[-1][1]))
    assert _loses(tmp_path, monkeypatch)


def test_a_state_machine_that_differs_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Ledger.apply

    def forgetful(ledger: Ledger, command: bytes) -> bytes:
        """One of them takes another command in the place of its fiftieth."""
        is_other = len(ledger.commands) == 50 and len(ledger.agreed) > 50
        return honest(ledger, b"other" if is_other else command)

    monkeypatch.setattr(Ledger, "apply", forgetful)
    with pytest.raises(SystemExit, match="place 50: b'other' here"):
        run(tmp_path, monkeypatch, 0)
