"""A stop by the watchdog is noticed afterwards, however short it was: the program is cut off until it is led back."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

import pytest

from cluster.agents.place import Place
from cluster.agents.tenure import Tenure
from cluster.fencing.guard import Guard
from cluster.fencing.lease_file import LeaseFile, Watched
from cluster.fencing.watchdog import Watchdog
from cluster.leader.lease import LeaseTimes
from cluster.node.program import ProgramFile
from cluster.registry.values import Policy
from tests.cluster.cluster_of import configs
from transport.clock import boottime_ns
from transport.errors import ConfigError, KagemushaError

FAR_S = 3600.0


class Nothing:
    """Cuts off nobody: what is looked at here is what is said of it."""

    def cut_off(self, watched: Watched) -> None:
        """See `watchdog.CutsOff`."""


def cut_off(tenure: Tenure) -> bool:
    """As it is at this moment."""
    return tenure.is_cut_off


async def test_a_stop_that_nobody_saw_is_known_all_the_same(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "leases", ("none",), tmp_path / "log")
    watchdog = Watchdog(LeaseFile(tmp_path / "leases"), Nothing(), boottime_ns, lambda _: None)
    place = Place(configs(tmp_path, ("a", "b"))["a"], "redis")
    file = ProgramFile("redis", "0" * 64, Policy(), "", "", 1000)
    tenure = Tenure(place, guard, LeaseTimes(0.4), lambda *_: None, lambda: file)
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    guard.watch(Watched("redis", 1, 0, "", "", ""), now_s + FAR_S)
    assert cut_off(tenure), "nothing is known of it yet"
    tenure.open()
    watchdog.turn()
    assert not cut_off(tenure)

    # The lease comes back in the moment in which the watchdog stops the program.
    guard.extend("redis", now_s)
    watchdog.turn()
    assert cut_off(tenure)
    guard.extend("redis", now_s + FAR_S)
    watchdog.turn()
    assert tenure.fencing is None
    assert cut_off(tenure)

    # And once more while its clients are led back.
    returns = await tenure.thawed()
    guard.extend("redis", now_s)
    watchdog.turn()
    guard.extend("redis", now_s + FAR_S)
    watchdog.turn()
    tenure.led_back(returns)
    assert cut_off(tenure)
    tenure.led_back(await tenure.thawed())
    assert not cut_off(tenure)
    tenure.adopt(1)
    assert cut_off(tenure)
    guard.close()


async def test_it_is_ready_when_it_has_a_lease_and_that_is_recorded(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "leases", ("none",), tmp_path / "log")
    place = Place(configs(tmp_path, ("a", "b"))["a"], "redis")
    file = ProgramFile("redis", "0" * 64, Policy(), "", "", 1000)
    tenure = Tenure(place, guard, LeaseTimes(0.4), lambda *_: None, lambda: file)
    recorded = asyncio.Event()

    async def record() -> None:
        await recorded.wait()

    async def full() -> None:
        raise ConfigError("the disk is full")

    ready = asyncio.create_task(tenure.be_ready(tenure.begin(1), record))
    await asyncio.sleep(0)
    assert tenure.granted(1, time.clock_gettime(time.CLOCK_BOOTTIME), 0.4)
    await asyncio.sleep(0)
    assert not ready.done(), "nobody would know of it after a loss of power"
    recorded.set()
    await ready
    with pytest.raises(ConfigError, match="full"):
        await tenure.be_ready(tenure.begin(2), full)
    with pytest.raises(KagemushaError, match="not granted a lease"):
        await tenure.be_ready(tenure.begin(3), record)
    guard.close()


async def test_a_lease_is_prolonged_on_a_node_that_can_open_nothing(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "leases", ("none",), tmp_path / "log")
    place = Place(configs(tmp_path, ("a", "b"))["a"], "redis")
    file = ProgramFile("redis", "0" * 64, Policy(), "", "", 1000)
    tenure = Tenure(place, guard, LeaseTimes(0.4), lambda *_: None, lambda: file)
    tenure.begin(1)
    assert tenure.granted(1, time.clock_gettime(time.CLOCK_BOOTTIME), 0.4)
    tenure.extend(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        tenure.extend(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert tenure.cgroup() is not None
    guard.close()
