"""What is sent to the old node while the address moves arrives at the new one, without waiting for a retransmission."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from agent.network.address import ServiceAddress
from agent.network.stragglers import Stragglers
from tests.agent.lan import ADDRESS4, ADDRESS6, Lan

PORT = 7777
_TCP_INFO_TOTAL_RETRANS = 100  # offset in struct tcp_info, linux/tcp.h
ADDRESSES = pytest.mark.parametrize("address", [ADDRESS4, ADDRESS6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with Lan() as lan:
        yield lan


class Move:
    """An address on `first` that moves to `second`, where a listener waits for it."""

    def __init__(self, lan: Lan, address: IPv4Interface | IPv6Interface) -> None:
        self.lan = lan
        self.address = address
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        self.here = self._listener("first", family)
        self.there = self._listener("second", family)
        with lan.inside("first"):
            self.old = ServiceAddress([str(address)], "eth0")
            self.stragglers = Stragglers(lan.link("first"), [address.ip])
        with lan.inside("second"):
            self.new = ServiceAddress([str(address)], "eth0")
        self.old.claim()

    def _listener(self, node: str, family: int) -> socket.socket:
        with self.lan.inside(node):
            listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
        listener.listen()
        listener.settimeout(10)
        return listener

    def connecting(self) -> socket.socket:
        """A client's connection under way."""
        with self.lan.inside("client"):
            client = socket.socket(self.here.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        client.connect_ex((str(self.address.ip), PORT))
        return client

    def pump_until(self, sent_on: int) -> None:
        """Pump until so many frames were sent on."""
        while self.stragglers.sent_on < sent_on:
            assert select.select(self.stragglers.filenos(), [], [], 10)[0]
            self.stragglers.pump()

    def close(self) -> None:
        self.new.drop()
        self.old.drop()
        for one in (self.old, self.new, self.stragglers, self.here, self.there):
            one.close()


def retransmissions(client: socket.socket) -> int:
    """How many segments the client's kernel had to send again."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    count: int = struct.unpack_from("=I", info, _TCP_INFO_TOTAL_RETRANS)[0]
    return count


@pytest.fixture
def move(lan: Lan, address: IPv4Interface | IPv6Interface) -> Iterator[Move]:
    move = Move(lan, address)
    yield move
    move.close()


@ADDRESSES
def test_a_connection_attempt_into_the_gap_is_answered_by_the_new_node(move: Move) -> None:
    with closing(move.lan.connect(str(move.address.ip), PORT)):  # the client knows where the address is
        move.stragglers.begin()
        move.old.drop()
        with closing(move.connecting()) as client:
            assert select.select(move.stragglers.filenos(), [], [], 10)[0]
            move.stragglers.pump()
            move.new.claim()
            move.pump_until(sent_on=1)
            accepted, _ = move.there.accept()
            with closing(accepted):
                assert select.select([], [client], [], 10)[1]
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                assert retransmissions(client) == 0


@ADDRESSES
def test_a_large_request_that_the_kernel_has_yet_to_cut_arrives_whole(move: Move) -> None:
    """The new node has no such connection and says so: its reset shows that what was sent on was valid."""
    with closing(move.lan.connect(str(move.address.ip), PORT)) as client:
        move.stragglers.begin()
        move.old.drop()
        client.sendall(bytes(8000))
        assert select.select(move.stragglers.filenos(), [], [], 10)[0]
        move.stragglers.pump()
        move.new.claim()
        move.pump_until(sent_on=1)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@ADDRESSES
def test_an_announcement_alone_sends_nothing(move: Move) -> None:
    with closing(move.lan.connect(str(move.address.ip), PORT)):
        move.stragglers.begin()
        move.old.drop()
        move.new.claim()
        assert select.select(move.stragglers.filenos(), [], [], 10)[0]
        move.stragglers.pump()
        assert move.stragglers.sent_on == move.stragglers.dropped == 0


@ADDRESSES
def test_nothing_is_caught_before_it_begins_or_of_other_addresses(move: Move) -> None:
    with closing(move.lan.connect(str(move.address.ip), PORT)):
        assert not select.select(move.stragglers.filenos(), [], [], 0)[0]
        move.stragglers.begin()
        own = "10.91.0.1" if move.address.version == 4 else "fd91::1"
        with closing(move.lan.connect(own, PORT)):
            assert not select.select(move.stragglers.filenos(), [], [], 0)[0]


def test_memory_is_bounded(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.network.stragglers.FRAMES_MAX", 2)
    move = Move(lan, ADDRESS4)
    with closing(move), closing(lan.connect(str(ADDRESS4.ip), PORT)):
        move.stragglers.begin()
        move.old.drop()
        clients = [move.connecting() for _ in range(4)]
        while move.stragglers.dropped < 2:
            assert select.select(move.stragglers.filenos(), [], [], 10)[0]
            move.stragglers.pump()
        move.new.claim()
        move.pump_until(sent_on=2)
        for client in clients:
            client.close()
