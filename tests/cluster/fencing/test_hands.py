"""What a frozen program's kernel says to its clients, and that it says nothing once it is cut off."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from cluster.fencing.addresses import Addresses
from cluster.fencing.cgroup import ProgramCgroup
from cluster.fencing.hands import Hands
from cluster.fencing.lease_file import Watched
from tests.agent.lan import ADDRESS4, ADDRESS6, Lan
from tests.cluster.fencing.frames import DEADLINE_S, Segment, Sniffer
from transport.errors import KagemushaError
from transport.track_file import TrackFile

PORT = 7300
INSTANCE = "talker@first"
TALKS = """
import select, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
server = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
sys.stdout.write("listens\\n")
sys.stdout.flush()
connection = server.accept()[0]
while True:
    heard = connection.recv(100)
    connection.sendall(b"heard " + heard)
"""
BOTH = pytest.mark.parametrize("interface", [ADDRESS4, ADDRESS6], ids=["IPv4", "IPv6"])


class Talker:
    """A program at the address, on the first node, that answers one client."""

    def __init__(self, lan: Lan, address: str) -> None:
        self.lan = lan
        ip = str(ip_interface(address).ip)
        self.watched = Watched("talker", 1, 0, address, "eth0", "", INSTANCE)
        self.address = ip_interface(address).ip
        self.give_address_back()
        nsenter = ("nsenter", f"--net=/run/netns/{lan.name('first')}")
        words = (*nsenter, sys.executable, "-u", "-c", TALKS, ip, str(PORT))
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.cgroup = ProgramCgroup.create(f"kgm-{os.getpid()}/talker")
        self.cgroup.add(self.process.pid)
        with lan.inside("client"):
            self.sniffer = Sniffer()
        self.client = lan.connect(ip, PORT)
        self.ask()
        with lan.inside("first"):
            self.hands = Hands()

    def give_address_back(self) -> None:
        """Put the address onto the first node's interface."""
        more = ("nodad",) if self.address.version == 6 else ()
        words = ("address", "add", self.watched.address, "dev", "eth0", *more)
        subprocess.run(("ip", "-n", self.lan.name("first"), *words), check=True)

    def ask(self) -> None:
        """The client is answered."""
        self.client.sendall(b"hello")
        assert self.client.recv(100) == b"heard hello"

    def set_deaf(self, deaf: bool) -> None:
        """Let the client hear nothing of what comes, or everything again."""
        rules = "table inet deaf { chain c { type filter hook prerouting priority -300; tcp sport 7300 drop; }; }"
        words = ("nft", rules) if deaf else ("nft", "delete table inet deaf")
        subprocess.run(("nsenter", f"--net=/run/netns/{self.lan.name('client')}", *words), check=True)

    def freeze(self) -> None:
        """The program stands still."""
        self.cgroup.freeze()
        assert self.cgroup.await_frozen(time.monotonic() + DEADLINE_S)

    def is_heard(self, segment: Segment) -> bool:
        """Whether the program's kernel said it."""
        return segment.source == self.address

    def close(self) -> None:
        """End it."""
        self.cgroup.kill()
        self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        limit_s = time.monotonic() + DEADLINE_S
        while self.cgroup.directory.exists() and time.monotonic() < limit_s:
            self.cgroup.remove()
        self.cgroup.directory.parent.rmdir()
        self.client.close()
        self.sniffer.close()
        self.hands.close()


@contextmanager
def talking(address: str) -> Iterator[Talker]:
    """A talker and its client."""
    with Lan() as lan:
        talker = Talker(lan, address)
        try:
            yield talker
        finally:
            talker.close()


def sent_again(segments: list[Segment], times: int) -> bool:
    """Whether the client has sent the same bytes so many times more: it waited 0.2 s, then 0.4, then 0.8."""
    sequences = [one.sequence for one in segments if one.length]
    return any(sequences.count(sequence) > times for sequence in sequences)


@BOTH
def test_without_a_barrier_a_frozen_program_still_acknowledges(interface: object) -> None:
    with talking(str(interface)) as talker:
        talker.freeze()
        talker.sniffer.forget()
        talker.client.sendall(b"hello")
        talker.sniffer.until(lambda found: any(map(talker.is_heard, found)))


@BOTH
def test_one_that_is_cut_off_and_frozen_says_nothing_and_goes_on_later(interface: object) -> None:
    with talking(str(interface)) as talker:
        # The client does not hear the answer, so that the program's kernel has something to send again, too.
        hands, barriers = talker.hands, talker.hands.barriers
        talker.set_deaf(True)
        talker.sniffer.forget()
        talker.client.sendall(b"hello")
        talker.sniffer.until(lambda found: any(talker.is_heard(one) and one.length for one in found))
        hands.cut_off(talker.watched)
        talker.freeze()
        assert barriers.stands(INSTANCE, talker.address)
        assert barriers.instances() == {INSTANCE}
        talker.set_deaf(False)
        talker.sniffer.forget()
        talker.client.sendall(b"hello")
        found = talker.sniffer.until(lambda found: sent_again(found, 3))
        assert not list(filter(talker.is_heard, found))

        # Undone: the address is back, and what was said meanwhile is answered.
        talker.give_address_back()
        assert barriers.lift(INSTANCE, talker.address)
        assert not barriers.lift(INSTANCE, talker.address)
        talker.cgroup.thaw()
        assert talker.client.recv(100).startswith(b"heard hello")


@BOTH
def test_a_program_that_runs_on_is_cut_off_all_the_same(interface: object) -> None:
    with talking(str(interface)) as talker:
        talker.hands.cut_off(talker.watched)
        talker.sniffer.forget()
        talker.client.sendall(b"hello")
        found = talker.sniffer.until(lambda found: sent_again(found, 2))
        assert not list(filter(talker.is_heard, found))
        # Even with the address back, as keepalived might put it.
        talker.give_address_back()
        talker.sniffer.forget()
        found = talker.sniffer.until(lambda found: sum(not talker.is_heard(one) for one in found) >= 1)
        assert not list(filter(talker.is_heard, found))
        talker.hands.cut_off(talker.watched)
        with talker.lan.inside("first"):
            addresses = Addresses()
        assert not addresses.has(str(interface))
        addresses.close()


def test_a_firewall_that_is_loaded_anew_takes_the_barrier_until_the_next_turn() -> None:
    with talking(str(ADDRESS4)) as talker:
        barriers = talker.hands.barriers
        barriers.stage(INSTANCE, talker.address)
        assert not barriers.stands(INSTANCE, talker.address)
        talker.ask()
        talker.hands.cut_off(talker.watched)
        flush = ("nsenter", f"--net=/run/netns/{talker.lan.name('first')}", "nft", "flush", "ruleset")
        subprocess.run(flush, check=True)
        assert not barriers.stands(INSTANCE, talker.address)
        talker.hands.cut_off(talker.watched)
        assert barriers.stands(INSTANCE, talker.address)
        # One that is not as it should be is made anew.
        table = "inet kagemusha.talker.first"
        subprocess.run((*flush[:2], "nft", f"flush chain {table} output"), check=True)
        assert not barriers.stands(INSTANCE, talker.address)
        talker.hands.cut_off(talker.watched)
        assert barriers.stands(INSTANCE, talker.address)
        barriers.remove(INSTANCE)
        barriers.remove(INSTANCE)
        assert barriers.instances() == frozenset()


def test_what_can_not_be_done_keeps_nothing_else_from_being_done(tmp_path: Path) -> None:
    with talking(str(ADDRESS4)) as talker:
        track = tmp_path / "none" / "track"
        with pytest.raises(KagemushaError, match="No such file"):
            talker.hands.cut_off(replace(talker.watched, track=str(track)))
        assert talker.hands.barriers.stands(INSTANCE, talker.address)
        track.parent.mkdir()
        TrackFile(track).allow()
        assert TrackFile(track).allows()
        talker.hands.cut_off(replace(talker.watched, track=str(track)))
        assert track.read_text() == "0\n"
        assert not TrackFile(track).allows()
        track.write_text("rubbish")
        assert not TrackFile(track).allows()
        assert [path.name for path in track.parent.iterdir()] == ["track"]
