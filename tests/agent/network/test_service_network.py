"""A mirror listens from the last word of its primary on, and no longer than something may come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.network import service_network
from agent.network.service_network import ServiceNetwork
from agent.redirect import Redirect
from tests.agent.lan import ADDRESS4, Lan


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as one:
        yield one


class Mirror:
    """What the agent of a mirror on the second node has to do with its network."""

    def __init__(self, lan: Lan, directory: Path) -> None:
        self._lan = lan
        redirect = Redirect(driver="address", address=str(ADDRESS4), interface="eth0")
        with lan.inside("second"):
            self.network = ServiceNetwork("p@second", redirect, directory / "track", asyncio.get_running_loop())
        self._others = self._packet_sockets()

    def _packet_sockets(self) -> int:
        with self._lan.inside("second"):
            return len(Path("/proc/thread-self/net/packet").read_text().splitlines())

    def is_listening(self) -> bool:
        return self._packet_sockets() > self._others

    def listen(self) -> None:
        with self._lan.inside("second"):
            self.network.listen()

    def arm(self) -> None:
        with self._lan.inside("second"):
            self.network.arm()


async def test_it_stops_listening_when_another_goes_on(
    lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_network, "LISTEN_S", 0.05)
    mirror = Mirror(lan, tmp_path)
    mirror.listen()
    assert mirror.is_listening()
    async with asyncio.timeout(10):
        while mirror.is_listening():
            await asyncio.sleep(0.01)
    mirror.network.close()


async def test_once_it_goes_on_itself_it_listens_until_all_is_settled(
    lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_network, "LISTEN_S", 0.05)
    mirror = Mirror(lan, tmp_path)
    mirror.listen()
    mirror.arm()
    due = asyncio.Event()
    asyncio.get_running_loop().call_later(2 * service_network.LISTEN_S, due.set)
    await due.wait()
    assert mirror.is_listening()
    await mirror.network.settle([], [], exact=True, outage_ms=0.0)
    assert not mirror.is_listening()
    mirror.network.close()


async def test_it_stops_listening_when_nothing_comes_of_it(lan: Lan, tmp_path: Path) -> None:
    mirror = Mirror(lan, tmp_path)
    mirror.arm()
    assert mirror.is_listening()
    mirror.network.disarm()
    assert not mirror.is_listening()
    mirror.network.close()
