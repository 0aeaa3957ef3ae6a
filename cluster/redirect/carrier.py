"""An address on an interface of this node, for drivers; see `driver.Carrier`."""

from __future__ import annotations

from cluster.fencing.addresses import Addresses


class LocalCarrier:
    """In the network namespace of the thread that makes it.

    A barrier before the address stays: to take it down belongs to who serves under a lease, not to who looks after an
    address. So an address that comes back here a moment after a fence is of no consequence.
    """

    def __init__(self, address: str, interface: str) -> None:
        """Raises KagemushaError."""
        self._address = address
        self._interface = interface
        self._addresses = Addresses()

    def put(self) -> None:
        """See `driver.Carrier`. The neighbours that knew it here know it here still, and are not told."""
        self._addresses.add(self._address, self._interface)

    def drop(self) -> None:
        """See `driver.Carrier`."""
        self._addresses.drop(self._address)

    def has(self) -> bool:
        """See `driver.Carrier`."""
        return self._addresses.has(self._address)

    def close(self) -> None:
        """Close its socket."""
        self._addresses.close()
