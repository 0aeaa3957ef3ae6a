"""The address at which a program is reached: claimed by the node that serves it, dropped by the others."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_interface
from types import TracebackType
from typing import Self

from agent.errors import KernelError
from agent.kernel.neighbour import NeighbourSocket
from agent.kernel.rtnetlink import Interface, RouteSocket
from transport.errors import ConfigError


class ServiceAddress:
    """One or more addresses on one interface of this network namespace.

    All sockets are opened ahead, so claiming costs two messages to the kernel and the announcements, 0.1 ms in all.
    Both operations are idempotent.
    """

    def __init__(self, addresses: Sequence[str], interface: str) -> None:
        """addresses: "10.0.0.7/32", "fd00::7/128"; without a prefix length, the host's own (32, 128).

        Raises ConfigError for what is no address, KernelError when there is no such interface.
        """
        self.addresses = [_parse(address) for address in addresses]
        self._routes = RouteSocket()
        try:
            self.link = self._routes.link(interface)
            self._neighbours = NeighbourSocket(self.link)
        except KernelError:
            self._routes.close()
            raise

    def claim(self) -> None:
        """Put the addresses on the interface and tell the neighbours."""
        for address in self.addresses:
            self._routes.add_address(self.link, address)
        self.announce()

    def announce(self, times: int = 2) -> bool:
        """Tell the neighbours so often; False when the link is down."""
        heard = [self._neighbours.announce(address.ip, times=times) for address in self.addresses]
        return all(heard)

    def drop(self) -> bool:
        """Take the addresses off the interface; False when none of them was there. What was to be sent from them, and
        waited for a neighbour to answer, is not sent any more."""
        found = [self._routes.delete_address(self.link, address) for address in self.addresses]
        for version in {address.version for address in self.addresses}:
            self._routes.waiting.drop(version)
        return any(found)

    def is_here(self) -> bool:
        """Whether all of the addresses are on the interface."""
        return all(self._routes.has_address(self.link, address) for address in self.addresses)

    def close(self) -> None:
        """Close the sockets; the addresses stay as they are."""
        self._routes.close()
        self._neighbours.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _parse(address: str) -> Interface:
    try:
        return ip_interface(address)
    except ValueError as error:
        raise ConfigError(f"{address!r} is no IP address: {error}", hint='write it as "10.0.0.7/32"') from error
