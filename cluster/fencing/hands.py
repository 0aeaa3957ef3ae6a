"""Cutting a primary off from its clients, in the only order that is safe, with what was opened ahead for it.

1. The barrier: its kernel says nothing more in the address's name, and hears nothing (`transport.barrier`).
2. keepalived is told that it may not have the address, before it is gone: it would put it back.
3. The address is deleted. That alone would let out a retransmission or two of IPv6, and does not help against
   keepalived; 1 and 2 alone would leave a machine that answers ARP.
4. What waits until a neighbour answers is dropped: it was past the barrier before there was one.

To freeze the program comes after that: it takes the longest.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from cluster.fencing.addresses import Addresses
from cluster.fencing.lease_file import Watched
from cluster.fencing.netlink import Netlink
from transport.barrier import Barriers
from transport.errors import KagemushaError
from transport.nftables import NETLINK_NETFILTER
from transport.track_file import TrackFile
from transport.waiting import Waiting


class Hands:
    """Its sockets belong to the network namespace in which it was made."""

    def __init__(self) -> None:
        """Raises KagemushaError: this kernel has no nftables."""
        self._nftables = Netlink(NETLINK_NETFILTER)
        self._addresses = Addresses()
        self._routes = Netlink(socket.NETLINK_ROUTE)
        self._waiting = Waiting(self._routes.exchange)
        self.barriers = Barriers(self._nftables.exchange)

    def cut_off(self, watched: Watched) -> None:
        """Do all of it, as far as it concerns this primary; read back. Again costs little and changes nothing.

        What can't be done does not keep the rest from being done. Raises KagemushaError with the first trouble.
        """
        trouble: KagemushaError | None = None
        for step in (self._silence, self._forbid, self._drop, self._drop_waiting):
            try:
                step(watched)
            except KagemushaError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    def close(self) -> None:
        """Close the sockets."""
        self._nftables.close()
        self._addresses.close()
        self._routes.close()

    def _silence(self, watched: Watched) -> None:
        if watched.address and watched.instance:
            self.barriers.put(watched.instance, ipaddress.ip_interface(watched.address).ip)

    def _forbid(self, watched: Watched) -> None:
        if watched.track:
            TrackFile(Path(watched.track)).forbid()

    def _drop(self, watched: Watched) -> None:
        if watched.address:
            self._addresses.drop(watched.address)

    def _drop_waiting(self, watched: Watched) -> None:
        if watched.address:
            self._waiting.drop(ipaddress.ip_interface(watched.address).version)
