"""Neither daemon nor watchdog of a primary's node come to act when its lease ends: the kernel does by itself."""

from __future__ import annotations

import os
import signal
from ipaddress import ip_address

import pytest

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import ADDRESS
from tests.cluster.fencing.frames import Segment, Sniffer
from tests.cluster.trio import Trio, say, trio
from tests.command_lines import command_lines

pytestmark = pytest.mark.nodes

ANSWERS_AFTER_S = 3
"""Then the program says something by itself."""


def _stop_those_who_fence(cluster: Trio) -> list[int]:
    pids = [
        pid
        for pid, words in command_lines(cluster.machines.nodes["a"])
        if b"watchdog" in words or b"tests.cluster.driven_node" in words
    ]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


async def _said_beside_the_next_primary(cluster: Trio) -> list[Segment]:
    """What node a says in the address' name when another node serves."""
    connection = cluster.connect()
    assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
    await cluster.caught_up(await cluster.served())
    with open(cluster.machines.nodes["a"].network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
        sniffer = Sniffer()
    stopped = _stop_those_who_fence(cluster)
    hanging = cluster.daemons.pop("a")
    try:
        connection.sendall(b"*3\r\n$5\r\nBLPOP\r\n$7\r\nnothing\r\n$1\r\n%d\r\n" % ANSWERS_AFTER_S)
        await cluster.until(lambda view: view["programs"]["redis"]["token"] == 2, "another node is to serve")
        sniffer.forget()
        assert connection.recv(100) in (b"*-1\r\n", b"")
        return [one for one in sniffer.so_far() if one.source == ip_address(ADDRESS)]
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        cluster.daemons["a"] = hanging
        sniffer.close()
        connection.close()


async def test_two_do_not_serve() -> None:
    async with trio() as cluster:
        assert not await _said_beside_the_next_primary(cluster)


async def test_they_would() -> None:
    async with trio() as cluster:
        assert await cluster.daemons["a"].ask(do="keep leases from the kernel") == {}
        assert await _said_beside_the_next_primary(cluster)
