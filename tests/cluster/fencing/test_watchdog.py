"""Turn after turn of a watchdog whose clock is the test's, and whose program is in a directory like a cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.fencing.lease_file import LeaseFile, Watched
from cluster.fencing.watchdog import Watchdog


class _Hands:
    def cut_off(self, watched: Watched) -> None:
        pass


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watchdog(tmp_path: Path, said: list[str]) -> Watchdog:
    return Watchdog(LeaseFile(tmp_path / "leases"), _Hands(), lambda: 1_000_000, said.append)


def test_a_program_that_could_not_be_thawed_is_thawed_as_soon_as_that_can_be_done(
    watchdog: Watchdog, said: list[str], tmp_path: Path
) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    (cgroup / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    watchdog.leases.put(0, Watched("p", 7, 4711, "10.0.0.100/24", "eth0", str(cgroup)))
    watchdog.turn()
    assert (cgroup / "cgroup.freeze").read_text() == "1"
    assert watchdog.leases.fencing(0) is not None

    away = cgroup.rename(tmp_path / "away")
    watchdog.leases.extend(0, 2_000_000)
    said.clear()
    watchdog.turn()
    watchdog.turn()
    assert said == [f"p: {cgroup}/cgroup.freeze: No such file or directory"]
    assert watchdog.leases.fencing(0) is not None

    away.rename(cgroup)
    watchdog.turn()
    assert (cgroup / "cgroup.freeze").read_text() == "0"
    assert watchdog.leases.fencing(0) is None
    assert watchdog.leases.returns(0) == 1
