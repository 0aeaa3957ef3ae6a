"""Tells at once which connections a program's clients open and close.

A connection becomes known when its SYN+ACK leaves the node, before the client can have sent anything, and is over with
the FIN or RST that leaves. So a mirror that takes over from an older checkpoint knows of connections that this has not,
and can reset them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from agent.kernel.packet import SYN, Address, SegmentTap
from agent.network.connections import Connection

Announce = Callable[[tuple[Connection, ...], tuple[Connection, ...]], None]
"""Is told the connections that were opened and those that were closed."""


class Announcer:
    """Watches the service addresses on one interface of this network namespace.

    ports: those of the program; None = all of the addresses'. It can be changed at any time.
    """

    def __init__(self, addresses: Sequence[Address], interface: str, announce: Announce) -> None:
        self.ports: Collection[int] | None = None
        self._tap = SegmentTap(addresses, interface, outgoing=True)
        self._announce = announce
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Watch from the running event loop."""
        self._tap.start()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._tap.fileno(), self._read)

    def close(self) -> None:
        """Watch no more."""
        if self._loop is not None:
            self._loop.remove_reader(self._tap.fileno())
            self._loop = None
        self._tap.close()

    def _read(self) -> None:
        opened: dict[Connection, None] = {}
        closed: dict[Connection, None] = {}
        for segment in self._tap.read():
            if self.ports is not None and segment.source_port not in self.ports:
                continue
            connection = (
                str(segment.source),
                segment.source_port,
                str(segment.destination),
                segment.destination_port,
            )
            if segment.flags & SYN:
                opened[connection] = None
                closed.pop(connection, None)
            elif connection in opened:
                del opened[connection]
            else:
                closed[connection] = None
        if opened or closed:
            self._announce(tuple(opened), tuple(closed))
