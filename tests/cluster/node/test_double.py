"""A copy of a node's files runs elsewhere while the node's own daemon is being restarted: it changes nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import ADDRESS
from tests.chaos.stranger import Stranger
from tests.cluster.fencing.frames import Sniffer
from tests.cluster.trio import DEADLINE_S, Trio, say, trio

pytestmark = pytest.mark.nodes

ANSWERS_AFTER_S = 9
"""Then the program says something by itself: before the extension of its lease ends."""


@contextmanager
def _double(cluster: Trio) -> Iterator[None]:
    """Node a's daemon a second time, on a machine of its own."""
    stranger = Stranger(cluster.directory.run_id)
    stranger.attach()
    config = stranger.pose_as(cluster.machines.nodes["a"], cluster.directory.path / "stranger")
    process = stranger.run_node(config, cluster.directory.logs / "daemon-double.log")
    try:
        yield
    finally:
        stranger.detach()
        stranger.close()
        process.wait(DEADLINE_S)


async def test_the_lease_that_was_extended_for_a_restart_holds_beside_a_double() -> None:
    """Those who lead when the double comes are new, too, and know of the extension from the registry alone."""
    async with trio() as cluster:
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        await cluster.caught_up(await cluster.served())
        with open(cluster.machines.nodes["a"].network.path, "rb") as namespace:
            with in_network_namespace(namespace.fileno()):
                sniffer = Sniffer()
        connection.sendall(b"*3\r\n$5\r\nBLPOP\r\n$7\r\nnothing\r\n$1\r\n%d\r\n" % ANSWERS_AFTER_S)
        gone = cluster.daemons.pop("a")
        gone.stop(signal.SIGTERM)
        try:
            for daemon in cluster.daemons.values():
                daemon.stop(signal.SIGTERM)
            with _double(cluster):
                for daemon in cluster.daemons.values():
                    daemon.start()
                await cluster.until(lambda view: view["programs"]["redis"]["token"] == 2, "another node is to serve")
                sniffer.forget()
                assert await asyncio.to_thread(connection.recv, 100) in (b"*-1\r\n", b"")
                assert not [one for one in sniffer.so_far() if one.source == ip_address(ADDRESS)]
                said = (cluster.directory.logs / "daemon-double.log").read_text()
                assert "[[nodes]] differ between node a" in said
        finally:
            cluster.daemons["a"] = gone
            sniffer.close()
            connection.close()
