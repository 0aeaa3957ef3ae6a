"""What a program's kernel could not send before the fence, because no neighbour answered, is not sent after it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from agent.kernel.nftables import BarrierSocket
from agent.kernel.rtnetlink import RouteSocket
from agent.network.address import ServiceAddress
from tests.cluster.fencing.frames import DEADLINE_S, Segment
from tests.cluster.fencing.test_hands import BOTH, Talker, talking
from transport.waiting import Waiting

NOBODY = 7301
"""The client listens nowhere there."""
ASLEEP = """
table arp asleep { chain c { type filter hook input priority 0; drop; }; }
table ip6 asleep { chain c { type filter hook input priority -300; icmpv6 type nd-neighbor-solicit drop; }; }
"""


def at(talker: Talker, node: str, *words: str) -> None:
    """A command in a node's network."""
    subprocess.run(("nsenter", f"--net=/run/netns/{talker.lan.name(node)}", *words), check=True)


@contextmanager
def unanswered(talker: Talker) -> Iterator[None]:
    """The client does not say where it is, and the program's node has forgotten it; the program has said something."""
    at(talker, "client", "nft", ASLEEP)
    at(talker, "first", "ip", "neigh", "flush", "all")
    talker.sniffer.forget()
    talker.client.sendall(b"hello")
    with talker.lan.inside("first"):
        routes = RouteSocket()
    limit_s = time.monotonic() + DEADLINE_S
    while not routes.waiting.silent(talker.address.version):
        assert time.monotonic() < limit_s
    routes.close()
    yield
    for family in ("arp", "ip6"):
        at(talker, "client", "nft", "delete", "table", family, "asleep")


def heard_until_another_comes(talker: Talker) -> list[Segment]:
    """What the client hears until something else of the same node arrives, which waits behind what waits there."""
    version, own = talker.address.version, {4: "10.91.0.1", 6: "fd91::1"}
    with talker.lan.inside("first"):
        other = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    other.setblocking(False)
    other.bind((own[version], 0))
    other.connect_ex(({4: "10.91.0.3", 6: "fd91::3"}[version], NOBODY))
    found = talker.sniffer.until(lambda found: any(str(one.source) == own[version] for one in found))
    other.close()
    return list(filter(talker.is_heard, found))


def by_watchdog(talker: Talker) -> None:
    """As the watchdog does it."""
    talker.hands.cut_off(talker.watched)


def by_agent(talker: Talker) -> None:
    """As an agent does it."""
    with talker.lan.inside("first"):
        network = BarrierSocket(), ServiceAddress([talker.watched.address], "eth0")
    barrier, address = network
    barrier.barriers.put(talker.watched.instance, talker.address)
    assert address.drop()
    barrier.close()
    address.close()


CUT_OFF = pytest.mark.parametrize("cut_off", [by_watchdog, by_agent])


def said_after(talker: Talker, cut_off: Callable[[Talker], None]) -> list[Segment]:
    """What the client hears of a program that was cut off, when it is awake again."""
    cut_off(talker)
    talker.freeze()
    at(talker, "client", "nft", "flush", "ruleset")
    at(talker, "client", "nft", ASLEEP.replace("drop", "accept"))
    return heard_until_another_comes(talker)


@BOTH
@CUT_OFF
def test_what_waits_for_a_neighbour_is_not_sent_after_the_fence(
    interface: object, cut_off: Callable[[Talker], None]
) -> None:
    with talking(str(interface)) as talker, unanswered(talker):
        assert said_after(talker, cut_off) == []


@BOTH
@CUT_OFF
def test_it_would_be(interface: object, cut_off: Callable[[Talker], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Waiting, "drop", lambda *_: 0)
    with talking(str(interface)) as talker, unanswered(talker):
        assert said_after(talker, cut_off)
