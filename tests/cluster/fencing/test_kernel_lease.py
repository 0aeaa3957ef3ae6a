"""What the kernel does by itself when a lease ends: nobody else does anything here."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.fencing.kernel_lease import KernelLeases
from tests.agent.lan import ADDRESS4
from tests.cluster.fencing.test_hands import BOTH, INSTANCE, Talker, talking
from transport.clock import boottime_s

LONG_S = 600.0
SHORT_S = 0.3
TABLE = f"kagemusha.{INSTANCE.replace('@', '.')}.lease"


@contextmanager
def leased(address: object) -> Iterator[tuple[Talker, KernelLeases]]:
    """A program that answers its client, and the leases of its node."""
    with talking(str(address)) as talker:
        with talker.lan.inside("first"):
            leases = KernelLeases()
        yield talker, leases
        leases.close()


def tables(talker: Talker) -> str:
    """What the program's node has."""
    words = ("nsenter", f"--net=/run/netns/{talker.lan.name('first')}", "nft", "list", "tables")
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def is_silent(talker: Talker) -> bool:
    """Whether the client hears nothing of the program, though it asks, and its kernel asks again and again."""
    talker.sniffer.forget()
    talker.client.sendall(b"hello")
    said = talker.sniffer.until(lambda found: sum(not talker.is_heard(one) for one in found) >= 3)
    return not any(map(talker.is_heard, said))


@BOTH
def test_the_traffic_passes_while_it_is_renewed_and_ends_with_the_lease(interface: object) -> None:
    with leased(interface) as (talker, leases):
        for _ in range(20):
            leases.hold(talker.watched, boottime_s() + LONG_S)
            talker.ask()
        leases.hold(talker.watched, boottime_s() + SHORT_S)
        time.sleep(SHORT_S + 0.02)  # The kernel's clock is what is tested.
        assert is_silent(talker)
        # The lease is back: what was said meanwhile is said again.
        leases.hold(talker.watched, boottime_s() + LONG_S)
        assert talker.client.recv(100) == b"heard hello"


@BOTH
def test_a_lease_that_has_ended_already_is_none(interface: object) -> None:
    with leased(interface) as (talker, leases):
        leases.hold(talker.watched, 0)
        assert is_silent(talker)


@BOTH
def test_what_another_daemon_has_made_is_taken_over(interface: object) -> None:
    with leased(interface) as (talker, leases):
        leases.hold(talker.watched, 0)
        with talker.lan.inside("first"):
            other = KernelLeases()
        other.hold(talker.watched, boottime_s() + LONG_S)
        talker.ask()
        other.close()
        # The first one knows nothing of that, and has its way.
        leases.hold(talker.watched, 0)
        assert is_silent(talker)


@BOTH
def test_tables_that_somebody_has_flushed_are_made_again(interface: object) -> None:
    with leased(interface) as (talker, leases):
        leases.hold(talker.watched, boottime_s() + LONG_S)
        words = ("nsenter", f"--net=/run/netns/{talker.lan.name('first')}", "nft", "flush", "ruleset")
        subprocess.run(words, check=True)
        leases.hold(talker.watched, boottime_s() + LONG_S)
        talker.ask()
        leases.hold(talker.watched, 0)
        assert is_silent(talker)


def test_nothing_is_left_of_what_is_forgotten() -> None:
    with leased(ADDRESS4) as (talker, leases):
        leases.hold(talker.watched, 0)
        assert TABLE in tables(talker)
        leases.forget(INSTANCE)
        leases.forget(INSTANCE)
        assert TABLE not in tables(talker)
        talker.ask()
