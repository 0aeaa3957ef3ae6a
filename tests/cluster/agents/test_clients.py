"""What keeps clients from being led to a node is said before anything is begun; what is left behind is taken away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path

import pytest

from cluster.agents.clients import Clients, obstacles, remove_forgotten_barriers
from cluster.agents.place import Place
from cluster.agents.tenure import Tenure
from cluster.config import NodeConfig
from cluster.fencing.addresses import Addresses
from cluster.fencing.guard import Guard
from cluster.fencing.hands import Hands
from cluster.fencing.lease_file import Watched
from cluster.leader.lease import LeaseTimes
from cluster.node.program import ProgramFile
from cluster.redirect.probe import AddressInUse
from cluster.redirect.redirection import DriverName, Redirection
from cluster.registry.values import Policy
from tests.agent.lan import Lan
from tests.cluster.cluster_of import configs

DEADLINE_S = 20.0
FAR_S = 3600.0
FREE, USED = "10.91.0.100/24", "10.91.0.2/24"


def file_of(said: Redirection) -> ProgramFile:
    """A program's file with this section."""
    return ProgramFile("redis", "0" * 64, Policy(), said.address, said.interface, 1000, redirection=said)


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    """Of node a."""
    return configs(tmp_path, ("a", "b"))["a"]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what other tasks do."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("driver", ["address", "keepalived"])
async def test_an_address_that_moves_takes_root(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, driver: DriverName
) -> None:
    said = Redirection(driver, FREE, "eth0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ((what, hint),) = await obstacles(config, file_of(said), known=False)
    assert what == f"redirect.driver {driver} takes root, and this node runs as user 1000"
    assert hint == 'set driver = "proxy", or run the node as root'


async def test_what_is_in_the_way_is_said(config: NodeConfig, tmp_path: Path) -> None:
    with Lan() as lan:
        hardware = lan.link("second").hardware.hex(":")
        with lan.inside("first"):
            taken = file_of(Redirection("address", USED, "eth0"))
            assert await obstacles(config, file_of(Redirection("address", FREE, "eth0")), known=False) == ()
            ((what, hint),) = await obstacles(config, taken, known=False)
            assert what == f"10.91.0.2 is used by {hardware} on eth0 already"
            assert "choose an address that is free" in hint
            assert await obstacles(config, taken, known=True) == ()
            ((what, _),) = await obstacles(config, file_of(Redirection("address", FREE, "none7")), known=False)
            assert what == "interface none7: No such device"
    command = (str(tmp_path / "none"),)
    ((what, _),) = await obstacles(config, file_of(Redirection("exec", claim=command, release=command)), known=False)
    assert what == f"redirect: {command[0]}: No such file or directory"
    assert await obstacles(config, file_of(Redirection()), known=False) == ()


async def test_an_address_that_somebody_has_is_not_claimed(config: NodeConfig) -> None:
    with Lan() as lan, lan.inside("first"):
        granted = asyncio.Event()

        async def lease() -> None:
            granted.set()

        place = Place(config, "redis")
        clients = Clients(place, lambda: file_of(Redirection("address", USED, "eth0")), lambda: True, lambda: None)
        with pytest.raises(AddressInUse):
            await clients.arrive(lease(), patient=True)
        assert granted.is_set()
        await clients.close()


@pytest.mark.parametrize(("node_b", "goes_on"), [("10.91.0.2:7400", True), ("10.91.0.77:7400", False)])
async def test_only_a_node_of_the_cluster_may_answer_for_what_is_continued(
    config: NodeConfig, node_b: str, goes_on: bool
) -> None:
    """Every process of a node may have ended while its kernel lives and has the address; a stranger is a stranger."""
    nodes = tuple(one if one.id == "a" else one.model_copy(update={"address": node_b}) for one in config.nodes)
    place = Place(config.model_copy(update={"nodes": nodes}), "redis")
    with Lan() as lan, lan.inside("first"):
        clients = Clients(place, lambda: file_of(Redirection("address", USED, "eth0")), lambda: True, lambda: None)

        async def lease() -> None:
            await asyncio.sleep(0.2)

        if goes_on:
            await clients.arrive(lease(), patient=False)
        else:
            with pytest.raises(AddressInUse):
                await clients.arrive(lease(), patient=False)
        with pytest.raises(AddressInUse):
            await clients.arrive(lease(), patient=True)
        await clients.close()


async def test_who_had_the_address_is_looked_for_until_it_is_gone(config: NodeConfig) -> None:
    nodes = tuple(
        one if one.id == "a" else one.model_copy(update={"address": "10.91.0.77:7400"}) for one in config.nodes
    )
    place = Place(config.model_copy(update={"nodes": nodes}), "redis")
    with Lan() as lan, lan.inside("first"):
        clients = Clients(place, lambda: file_of(Redirection("address", USED, "eth0")), lambda: True, lambda: None)

        async def lease() -> None:
            await asyncio.sleep(0.2)

        # Nobody is known to have it: a takeover waits for no answer.
        await clients.see_free()
        with pytest.raises(AddressInUse) as refused:
            await clients.arrive(lease(), patient=False)
        assert clients.taken == refused.value.what
        with pytest.raises(AddressInUse):
            await clients.see_free()
        subprocess.run(["ip", "-n", lan.name("second"), "address", "del", USED, "dev", "eth0"], check=True)
        await clients.see_free()
        assert clients.taken == ""
        await clients.close()


async def test_an_address_that_is_taken_away_comes_back_unless_it_was_silenced(config: NodeConfig) -> None:
    with Lan() as lan, lan.inside("first"):
        place = Place(config, "redis")
        place.make()
        may_serve = True
        said = Redirection("address", FREE, "eth0")
        clients = Clients(place, lambda: file_of(said), lambda: may_serve, lambda: None)
        hands, addresses = Hands(), Addresses()
        await clients.claim(1)
        assert addresses.has(FREE)
        addresses.drop(FREE)
        await until(lambda: addresses.has(FREE))

        # In a planned switchover the agent silences it and takes it away, and nobody puts it back.
        async with clients.leaving(1):
            hands.barriers.put(place.instance, ip_interface(FREE).ip)
            addresses.drop(FREE)
        assert not addresses.has(FREE)
        await clients.claim(2)
        assert not addresses.has(FREE)
        hands.barriers.lift(place.instance, ip_interface(FREE).ip)
        await until(lambda: addresses.has(FREE))

        assert place.instance in hands.barriers.instances()
        remove_forgotten_barriers("a", {place.instance})
        assert place.instance in hands.barriers.instances()
        remove_forgotten_barriers("b", set())
        assert place.instance in hands.barriers.instances()
        remove_forgotten_barriers("a", set())
        assert place.instance not in hands.barriers.instances()
        await clients.forget()
        hands.close()
        addresses.close()


async def test_without_an_agent_clients_are_led_back_by_the_daemon_if_it_may(
    config: NodeConfig, tmp_path: Path
) -> None:
    with Lan() as lan, lan.inside("first"):
        place = Place(config, "redis")
        place.make()
        allowed: list[bool] = []
        file = file_of(Redirection("address", FREE, "eth0"))
        guard = Guard(tmp_path / "leases", ("none",), tmp_path / "log")
        guard.watch(Watched("redis", 1, 0, "", "", ""), time.clock_gettime(time.CLOCK_BOOTTIME) + FAR_S)
        clients = Clients(place, lambda: file, lambda: bool(allowed), lambda: None)
        tenure = Tenure(place, guard, LeaseTimes(), lambda *_: None, lambda: file)
        hands, addresses = Hands(), Addresses()
        hands.barriers.put(place.instance, ip_interface(FREE).ip)
        await clients.lead_back(1, tenure)
        assert not addresses.has(FREE)
        assert tenure.is_cut_off
        allowed.append(True)
        await clients.lead_back(1, tenure)
        assert addresses.has(FREE)
        assert not hands.barriers.stands(place.instance, ip_interface(FREE).ip)
        await until(lambda: not tenure.is_cut_off)
        await clients.forget()
        guard.close()
        hands.close()
        addresses.close()


async def test_a_mirror_knows_what_would_be_in_the_way_of_its_clients(config: NodeConfig) -> None:
    def unready(said: Redirection) -> str:
        clients = Clients(Place(config, "redis"), lambda: file_of(said), lambda: False, lambda: None)
        clients.look_ahead()
        return clients.unready

    with Lan() as lan, lan.inside("first"):
        assert unready(Redirection("address", FREE, "eth0")) == ""
        assert unready(Redirection()) == ""
        assert unready(Redirection("address", FREE, "none7")) == "there is no interface none7"
        assert unready(Redirection("keepalived", FREE, "eth0", 51)) == "keepalived is not running"
        subprocess.run(["ip", "link", "set", "eth0", "down"], check=True)
        assert unready(Redirection("address", FREE, "eth0")) == "interface eth0 is down"
