"""An address on an interface of this node, for drivers; see `driver.Carrier`."""

from __future__ import annotations

from ipaddress import ip_interface

from cluster.fencing.addresses import Addresses
from cluster.fencing.netlink import Netlink
from cluster.redirect.driver import Silenced
from transport.barrier import Barriers
from transport.nftables import NETLINK_NETFILTER


class LocalCarrier:
    """In the network namespace of the thread that makes it.

    Where the instance has a barrier before the address, it was stopped on purpose, by its agent or the watchdog: the
    address is not put there then. A barrier that is put up at that very moment stays, so the address does no harm.
    """

    def __init__(self, instance: str, address: str, interface: str) -> None:
        """Raises KagemushaError."""
        self._instance = instance
        self._address = address
        self._interface = interface
        self._addresses = Addresses()
        self._nftables = Netlink(NETLINK_NETFILTER)
        self._barriers = Barriers(self._nftables.exchange)

    def put(self) -> None:
        """See `driver.Carrier`. The neighbours that knew it here know it here still, and are not told."""
        if self._barriers.stands(self._instance, ip_interface(self._address).ip):
            raise Silenced(f"{self._address} is silenced", hint=f"{self._instance} was stopped; it may go on later")
        self._addresses.add(self._address, self._interface)

    def drop(self) -> None:
        """See `driver.Carrier`."""
        self._addresses.drop(self._address)

    def has(self) -> bool:
        """See `driver.Carrier`."""
        return self._addresses.has(self._address)

    def close(self) -> None:
        """Close its sockets."""
        self._addresses.close()
        self._nftables.close()
