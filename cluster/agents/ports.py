"""Where the agents of a node listen for their mirrors: each gets a port of its own, even if several start at once."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.agents.place import Place
from cluster.config import host_and_port
from transport.errors import ControlError


class StreamPorts:
    """Of one node. in_use: those of the agents that answer."""

    def __init__(self, in_use: Callable[[], set[int]]) -> None:
        self._in_use = in_use
        self._reserved: set[int] = set()

    @contextmanager
    def reserved(self, place: Place) -> Iterator[int]:
        """A free port for the agent that is started within the block; nobody else here is given it meanwhile.

        A program gets the one that it had before, if that is free. Raises ControlError when none is.
        """
        port = self._free(place)
        self._reserved.add(port)
        try:
            yield port
        finally:
            self._reserved.discard(port)

    def _free(self, place: Place) -> int:
        first, last = place.config.agents.stream_ports
        host = host_and_port(place.config.own.address)[0]
        taken = self._reserved | self._in_use()
        for port in _turned(first, last, place.program):
            if port not in taken and _can_be_bound(host, port):
                return port
        raise ControlError(f"no port from {first} to {last} is free", hint="widen [agents] stream_ports in node.toml")


def _can_be_bound(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _turned(first: int, last: int, program: str) -> Iterator[int]:
    """All ports, beginning at one that this program is likely to have had before."""
    count = last - first + 1
    start = sum(program.encode()) % count
    return (first + (start + step) % count for step in range(count))
