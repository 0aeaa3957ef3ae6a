"""Real keepalived on two nodes, which carries an address for whom Raft has chosen, and never for anybody else."""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.network.address import ServiceAddress
from cluster.fencing.addresses import Addresses
from cluster.fencing.hands import Hands
from cluster.fencing.lease_file import Watched
from cluster.redirect.carrier import LocalCarrier
from cluster.redirect.driver import RedirectError, StaleToken
from cluster.redirect.keepalived import KeepalivedDriver
from cluster.redirect.redirection import Redirection
from tests.agent.lan import Lan
from tests.cluster.redirect.keepalived import Client, Echo, RealKeepalived, until
from transport.track_file import TrackFile

SAID = Redirection("keepalived", "10.91.0.100/24", "eth0", 51)
SAID6 = Redirection("keepalived", "fd91::100/64", "eth0", 52)
BOTH = pytest.mark.parametrize("said", [SAID, SAID6], ids=["IPv4", "IPv6"])


@dataclass
class Node:
    """One node: its keepalived, and the program's driver there."""

    lan: Lan
    name: str
    keepalived: RealKeepalived
    track: TrackFile
    driver: KeepalivedDriver
    agent: ServiceAddress
    hands: Hands
    addresses: Addresses

    async def take_over(self, token: int) -> None:
        """As a takeover does it: the agent first, then the driver."""
        self.agent.claim()
        with self.lan.inside(self.name):
            await self.driver.claim(token)

    async def release(self, token: int) -> None:
        """The driver's release."""
        with self.lan.inside(self.name):
            await self.driver.release(token)

    def has(self, said: Redirection = SAID) -> bool:
        """Whether the address is here."""
        return self.addresses.has(said.address)


async def make_node(stack: ExitStack, lan: Lan, name: str, directory: Path, said: Redirection) -> Node:
    """A node with keepalived running, and the program's file in its configuration."""
    keepalived = RealKeepalived(lan, name, directory)
    stack.callback(keepalived.close)
    track = TrackFile(keepalived.run / "redis.track")
    with lan.inside(name):
        carrier = LocalCarrier(f"redis@{name}", said.address, said.interface)
        agent = ServiceAddress([said.address], said.interface)
        hands, addresses = Hands(), Addresses()
        for one in (carrier, agent, hands, addresses):
            stack.callback(one.close)
        keepalived.start()
        await keepalived.until_it_says("no configuration to run")
        await keepalived.host.check("redis", said)
        await keepalived.host.install("redis", said, track.path)
    await keepalived.until_it_says("(kagemusha-redis) entering FAULT state")
    stack.callback(Echo(lan, name).close)
    return Node(lan, name, keepalived, track, KeepalivedDriver("redis", carrier, track), agent, hands, addresses)


@asynccontextmanager
async def nodes(directory: Path, said: Redirection = SAID) -> AsyncIterator[tuple[Node, Node, Client]]:
    """Two nodes, neither of which has the address, and a client."""
    with ExitStack() as stack:
        lan = stack.enter_context(Lan())
        first = await make_node(stack, lan, "first", directory, said)
        second = await make_node(stack, lan, "second", directory, said)
        client = Client(lan, said.address)
        stack.callback(client.close)
        yield first, second, client


@BOTH
async def test_the_address_goes_where_it_is_claimed(tmp_path: Path, said: Redirection) -> None:
    async with nodes(tmp_path, said) as (first, second, client):
        assert not first.has(said)
        await first.take_over(1)
        await client.until_answered_by("first")
        await first.keepalived.until_it_says("(kagemusha-redis) Entering MASTER STATE")
        assert await first.driver.holds()
        await first.take_over(1)
        client.forget()

        # Planned: released, then claimed elsewhere.
        await first.release(1)
        assert not await first.driver.holds()
        assert not first.has(said)
        await second.take_over(2)
        await client.until_answered_by("second")
        await second.keepalived.until_it_says("(kagemusha-redis) Entering MASTER STATE")
        await first.release(1)
        with pytest.raises(StaleToken, match="token 1 is late, 2 is known"):
            await second.driver.claim(1)
        with pytest.raises(StaleToken):
            await second.driver.release(1)
        assert second.has(said)
        assert {who for _, who in client.answers[-20:]} == {"second"}

        # Not planned: the watchdog cuts the old one off.
        client.forget()
        watched = Watched("redis", 2, 0, said.address, said.interface, "", "redis@second", str(second.track.path))
        second.hands.cut_off(watched)
        await first.take_over(3)
        await client.until_answered_by("first")
        assert not second.has(said)
        assert not second.track.allows()


async def test_without_the_file_an_address_that_is_deleted_comes_back(tmp_path: Path) -> None:
    """Why the 0 is written first."""
    async with nodes(tmp_path) as (first, _, _):
        await first.take_over(1)
        await first.keepalived.until_it_says("(kagemusha-redis) Entering MASTER STATE")
        first.agent.drop()
        await until(first.has)


@pytest.mark.parametrize("content", [None, "", "0\n", "yes\n"])
async def test_without_a_number_there_keepalived_lets_go(tmp_path: Path, content: str | None) -> None:
    async with nodes(tmp_path) as (first, _, _):
        await first.take_over(1)
        await first.keepalived.until_it_says("(kagemusha-redis) Entering MASTER STATE")
        if content is None:
            first.track.path.unlink()
        else:
            fresh = first.track.path.with_suffix(".other")
            fresh.write_text(content)
            fresh.rename(first.track.path)
        assert not first.track.allows()
        await first.keepalived.until_it_says("(kagemusha-redis) Entering FAULT STATE")
        await until(lambda: not first.has())


async def test_killed_hung_and_started_again(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second, client):
        await first.take_over(1)
        await first.keepalived.until_it_says("(kagemusha-redis) Entering MASTER STATE")
        await client.until_answered_by("first")
        keepalived = first.keepalived
        assert keepalived.host.trouble("redis", SAID) == ""

        # Hung: the address is where it was, and goes when it is to go.
        keepalived.send(signal.SIGSTOP)
        await until(lambda: keepalived.host.trouble("redis", SAID) == "keepalived is stopped by a signal")
        await first.release(1)
        assert not first.has()
        await second.take_over(2)
        await client.until_answered_by("second")
        keepalived.send(signal.SIGCONT)
        await keepalived.until_it_says("(kagemusha-redis) Entering FAULT STATE")
        assert not first.has()
        await client.until_answered_by("second")

        # Killed: it takes the address along or leaves it; it is put back, and goes when it is to go.
        second.keepalived.kill()
        await until(lambda: second.keepalived.host.trouble("redis", SAID) == "keepalived is not running")
        with second.lan.inside("second"):
            await second.driver.claim(2)
        await client.until_answered_by("second")
        await second.release(2)
        assert not second.has()
        with pytest.raises(RedirectError, match="keepalived is not running"):
            await second.keepalived.host.check("redis", SAID)

        # Started again with a file that was left behind: there is another that carries it, so it waits.
        await first.take_over(3)
        await client.until_answered_by("first")
        second.track.allow()
        for name in ("pid", "vrrp.pid"):
            (second.keepalived.directory / name).unlink()
        said = len(second.keepalived.log)
        second.keepalived.start()
        await second.keepalived.until_it_says("(kagemusha-redis) Entering BACKUP STATE", said)
        await client.until_answered_by("first")
        assert not second.has()


async def test_after_a_boot_keepalived_knows_of_no_program_until_the_daemon_says_so(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, _, _):
        await first.take_over(1)
        await first.keepalived.until_it_says("(kagemusha-redis) Entering MASTER STATE")
        # The power goes: what lies in /run and the address are gone. keepalived is there before any daemon.
        first.keepalived.kill()
        shutil.rmtree(first.keepalived.run)
        first.addresses.drop(SAID.address)
        for name in ("pid", "vrrp.pid"):
            (first.keepalived.directory / name).unlink()
        said = len(first.keepalived.log)
        first.keepalived.start()
        await first.keepalived.until_it_says("no configuration to run", said)
        assert not first.has()
        with first.lan.inside("first"):
            await first.keepalived.host.install("redis", SAID, first.track.path)
        await first.keepalived.until_it_says("(kagemusha-redis) entering FAULT state", said)
        assert "MASTER STATE" not in first.keepalived.log[said:]
        assert not first.has()


async def test_a_configuration_that_can_not_be_used_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, _, _):
        keepalived = first.keepalived
        host, path = keepalived.host, keepalived.run / "keepalived" / "redis.conf"
        before = path.read_text()
        assert "weight 0 reverse" in before
        assert "init_file" not in before
        other = keepalived.config.read_text() + (
            "vrrp_instance theirs {\n interface eth0\n virtual_router_id 7 # not 51\n priority 100\n"
            " virtual_ipaddress {\n  10.91.0.100/24\n }\n}\n"
        )
        keepalived.config.write_text(other)
        with pytest.raises(RedirectError, match=r"vrrp_instance theirs has the address 10\.91\.0\.100"):
            await host.check("redis", SAID)
        assert "theirs has the address" in host.trouble("redis", SAID)
        keepalived.config.write_text(other.replace("id 7", "id 51").replace(".100/24", ".99/24"))
        with pytest.raises(RedirectError, match="vrrp_instance theirs has virtual_router_id 51 on eth0"):
            await host.check("redis", SAID)
        keepalived.config.write_text("global_defs {\n}\n")
        with pytest.raises(RedirectError, match=r"does not include .*/run/keepalived/\*\.conf"):
            await host.check("redis", SAID)
        keepalived.config.write_text(f"vrrp_nonsense {{\n}}\n{keepalived.include}\n")
        with pytest.raises(RedirectError, match=r"keepalived refuses its configuration: .*vrrp_nonsense"):
            await host.install("redis", replace(SAID, router_id=53), first.track.path)
        assert path.read_text() == before
        keepalived.config.unlink()
        with pytest.raises(RedirectError, match="No such file"):
            await host.check("redis", SAID)
        await host.remove("redis")
        assert not path.exists()
        await host.remove("redis")


async def test_a_second_program_does_not_disturb_the_first(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, _, client):
        await first.take_over(1)
        await first.keepalived.until_it_says("(kagemusha-redis) Entering MASTER STATE")
        await client.until_answered_by("first")
        client.forget()
        other = Redirection("keepalived", "10.91.0.101/24", "eth0", 61)
        track = TrackFile(tmp_path / "first" / "web.track")
        with first.lan.inside("first"):
            await first.keepalived.host.install("web", other, track.path)
            await first.keepalived.until_it_says("(kagemusha-web) entering FAULT state")
            carrier = LocalCarrier("web@first", other.address, other.interface)
            driver = KeepalivedDriver("web", carrier, track)
            await driver.claim(1)
        await first.keepalived.until_it_says("(kagemusha-web) Entering MASTER STATE")
        assert await driver.holds()
        with first.lan.inside("first"):
            await driver.release(1)
        assert not carrier.has()
        carrier.close()
        await first.keepalived.host.remove("web")
        await client.until_answered_by("first")
        assert {who for _, who in client.answers} == {"first"}
        assert first.has()


async def test_not_installed(tmp_path: Path) -> None:
    with Lan() as lan:
        keepalived = RealKeepalived(lan, "first", tmp_path)
        settings = keepalived.settings.model_copy(update={"command": str(tmp_path / "none")})
        host = type(keepalived.host)(settings, str(keepalived.run), "10.91.0.1", ["10.91.0.2"])
        with pytest.raises(RedirectError, match="keepalived is not installed: there is no"):
            await host.check("redis", SAID)
