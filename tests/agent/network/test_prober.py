"""A takeover from an older checkpoint: who can go on goes on, who can't is told so, nobody waits for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from agent.network.announcer import Announcer
from agent.network.connections import Connection
from agent.network.newcomers import Newcomers
from agent.network.prober import Outcome, Prober
from tests.agent.lan import ADDRESS4, ADDRESS6
from tests.agent.service import ADDRESSES, PORT, Service, ask, receive, running_service

IN_EACH_FAMILY = pytest.mark.parametrize("address", [str(ADDRESS4.ip), str(ADDRESS6.ip)], ids=["IPv4", "IPv6"])
OUTAGE_MS = 300


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as one:
        yield one


class Lost:
    """The first node is lost some time after a checkpoint; the second has that and what was announced."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.opened: dict[Connection, None] = {}
        self.guesses: list[Connection] = []
        with service.lan.inside("first"):
            self.announcer = Announcer(ADDRESSES, "eth0", self._announced)
        with service.lan.inside("second"):
            self.prober = Prober(ADDRESSES, "eth0")
        self.announcer.start()

    def _announced(self, opened: tuple[Connection, ...], closed: tuple[Connection, ...]) -> None:
        self.opened.update(dict.fromkeys(opened))
        for connection in closed:
            self.opened.pop(connection, None)

    async def announced(self, count: int) -> None:
        """Until so many connections are known to be open."""
        while len(self.opened) != count:
            await asyncio.sleep(0)

    async def take_over(self) -> Outcome:
        """The cable is out; the second node goes on."""
        self.prober.arm()
        restored = self.service.go_on_elsewhere(exact=False)
        assert restored.failed == []
        self.prober.begin(restored.connections, self.opened, exact=False, outage_ms=OUTAGE_MS, guesses=self.guesses)
        self.service.server.command(go=True)
        outcome = await self.prober.run()
        self.prober.close()
        self.announcer.close()
        return outcome


def is_reset(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b"never"
    except ConnectionResetError:
        return True
    finally:
        connection.close()


@IN_EACH_FAMILY
async def test_idle_ones_survive_and_the_others_are_reset(service: Service, address: str) -> None:
    service.serve("echo")
    lost = Lost(service)
    idle = [service.lan.connect(address, PORT) for _ in range(20)]
    busy = [service.lan.connect(address, PORT) for _ in range(5)]
    for connection in idle + busy:
        ask(connection, b"first")
    service.checkpoint()
    late = [service.lan.connect(address, PORT) for _ in range(3)]
    for connection in busy + late:
        ask(connection, b"of a future that will be lost")
    short = service.lan.connect(address, PORT)
    short.close()
    await lost.announced(len(idle + busy + late))
    service.lan.set_cable("first", plugged=False)
    for connection in busy[:2]:
        connection.sendall(b"into the void")
    outcome = await lost.take_over()
    assert outcome == Outcome(restored=25, survived=20, reset=5, silent=0, poked=3)
    for connection in idle:
        ask(connection, b"again")
        connection.close()
    assert all(is_reset(connection) for connection in busy + late)
    with service.lan.connect(address, PORT) as new:
        ask(new, b"new")


@IN_EACH_FAMILY
async def test_a_request_into_the_void_is_answered_when_it_is_repeated(service: Service, address: str) -> None:
    service.serve("echo")
    lost = Lost(service)
    connections = [service.lan.connect(address, PORT) for _ in range(5)]
    for connection in connections:
        ask(connection, b"first")
    # Else the moment of the record can't be told from that of the last answer.
    await asyncio.sleep(0.005)
    service.checkpoint()
    service.lan.set_cable("first", plugged=False)
    for connection in connections:
        connection.sendall(b"request")
    outcome = await lost.take_over()
    assert outcome == Outcome(restored=5, survived=5, reset=0, silent=0, poked=0)
    for connection in connections:
        assert receive(connection, 7) == b"request"
        connection.close()


@IN_EACH_FAMILY
async def test_a_request_that_the_lost_node_took_is_reset(service: Service, address: str) -> None:
    """The client has nothing to repeat and would wait for ever: only the younger echo tells."""
    service.serve("echo")
    lost = Lost(service)
    connection = service.lan.connect(address, PORT)
    ask(connection, b"first")
    service.checkpoint()
    service.server.command(hold=True)
    await asyncio.sleep(0.005)
    connection.sendall(b"taken")
    while unacknowledged(connection):
        await asyncio.sleep(0)
    service.lan.set_cable("first", plugged=False)
    outcome = await lost.take_over()
    assert outcome == Outcome(restored=1, survived=0, reset=1, silent=0, poked=0)
    assert is_reset(connection)


def unacknowledged(connection: socket.socket) -> int:
    """Segments of the client that have not been acknowledged (tcpi_unacked)."""
    return int.from_bytes(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[24:], "little")


async def test_a_client_that_is_away_is_left_alone(service: Service) -> None:
    service.serve("echo")
    lost = Lost(service)
    connection = service.lan.connect(str(ADDRESS4.ip), PORT)
    ask(connection, b"first")
    service.checkpoint()
    service.lan.set_cable("first", plugged=False)
    service.lan.set_cable("client", plugged=False)
    outcome = await lost.take_over()
    assert outcome == Outcome(restored=1, survived=0, reset=0, silent=1, poked=0)
    service.lan.set_cable("client", plugged=True)
    # Nothing was sent on it meanwhile, so it can go on where it was.
    ask(connection, b"back")
    connection.close()


async def test_who_came_too_late_to_be_announced_is_reset_too(service: Service) -> None:
    """The announcements end some time before the node is lost, and all requests were acknowledged by it."""
    service.serve("echo")
    lost = Lost(service)
    newcomers = Newcomers()
    for _ in range(20):
        service.lan.connect(str(ADDRESS4.ip), PORT).close()
    await lost.announced(0)
    heard = service.lan.connect(str(ADDRESS4.ip), PORT)
    newcomers.heard([(str(ADDRESS4.ip), PORT, *heard.getsockname())], 0)
    service.checkpoint()
    heard.close()
    lost.announcer.close()
    service.server.command(hold=True)
    late = [service.lan.connect(str(ADDRESS4.ip), PORT) for _ in range(5)]
    for connection in late:
        connection.sendall(b"taken")
        while unacknowledged(connection):
            await asyncio.sleep(0)
    service.lan.set_cable("first", plugged=False)
    lost.guesses = newcomers.guesses(100)
    await lost.take_over()
    assert all(is_reset(connection) for connection in late)


async def test_who_is_poked_in_the_middle_of_a_takeover_need_not_wait_for_its_end(service: Service) -> None:
    service.serve("echo")
    lost = Lost(service)
    kept = service.lan.connect(str(ADDRESS4.ip), PORT)
    ask(kept, b"first")
    service.checkpoint()
    service.server.command(hold=True)
    late = service.lan.connect(str(ADDRESS4.ip), PORT)
    late.sendall(b"taken")
    while unacknowledged(late):
        await asyncio.sleep(0)
    await lost.announced(2)
    service.lan.set_cable("first", plugged=False)
    lost.prober.arm()
    restored = service.go_on_elsewhere(exact=True)
    going_on = {one.connection for one in restored.connections}
    lost.prober.poke([one for one in lost.opened if one not in going_on])
    # The program does not run yet.
    assert is_reset(late)
    service.server.command(go=True)
    ask(kept, b"second")
    kept.close()
    lost.prober.close()
    lost.announcer.close()
