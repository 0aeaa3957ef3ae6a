"""Connections are known when they are opened, and when they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agent.network.announcer import Announcer
from agent.network.connections import Connection
from tests.agent.lan import ADDRESS4, ADDRESS6
from tests.agent.service import ADDRESSES, PORT, Service, ask, running_service

IN_EACH_FAMILY = pytest.mark.parametrize("address", [str(ADDRESS4.ip), str(ADDRESS6.ip)], ids=["IPv4", "IPv6"])


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as one:
        one.serve("echo")
        yield one


class News:
    """What was announced, in order."""

    def __init__(self, service: Service) -> None:
        self.told: asyncio.Queue[tuple[str, Connection]] = asyncio.Queue()
        with service.lan.inside("first"):
            self.announcer = Announcer(ADDRESSES, "eth0", self._announced)
        self.announcer.start()

    def _announced(self, opened: tuple[Connection, ...], closed: tuple[Connection, ...]) -> None:
        for connection in opened:
            self.told.put_nowait(("opened", connection))
        for connection in closed:
            self.told.put_nowait(("closed", connection))


@IN_EACH_FAMILY
async def test_opened_and_closed(service: Service, address: str) -> None:
    news = News(service)
    client = service.lan.connect(address, PORT)
    connection = (address, PORT, *client.getsockname()[:2])
    assert await news.told.get() == ("opened", connection)
    ask(client, b"data is no news")
    client.close()
    assert await news.told.get() == ("closed", connection)
    assert news.told.empty()
    news.announcer.close()


async def test_opened_and_closed_between_two_looks_is_no_news(service: Service) -> None:
    news = News(service)
    for _ in range(10):
        with service.lan.connect(str(ADDRESS4.ip), PORT) as client:
            ask(client, b"short")
            client.shutdown(1)
            assert client.recv(1) == b""
    last = service.lan.connect(str(ADDRESS4.ip), PORT)
    assert await news.told.get() == ("opened", (str(ADDRESS4.ip), PORT, *last.getsockname()))
    assert news.told.empty()
    last.close()
    news.announcer.close()


async def test_other_ports_are_of_other_programs(service: Service) -> None:
    news = News(service)
    news.announcer.ports = {PORT + 1}
    service.lan.connect(str(ADDRESS4.ip), PORT).close()
    news.announcer.ports = {PORT}
    client = service.lan.connect(str(ADDRESS4.ip), PORT)
    while (await news.told.get()) != ("opened", (str(ADDRESS4.ip), PORT, *client.getsockname())):
        pass
    client.close()
    news.announcer.close()


async def test_an_interface_that_goes_down_and_up_is_watched_on(service: Service) -> None:
    news = News(service)
    service.lan.set_cable("first", plugged=False)
    service.lan.set_cable("first", plugged=True)
    client = service.lan.connect(str(ADDRESS4.ip), PORT)
    assert await news.told.get() == ("opened", (str(ADDRESS4.ip), PORT, *client.getsockname()))
    client.close()
    news.announcer.close()
