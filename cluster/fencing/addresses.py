"""The addresses of this network namespace's interfaces, by rtnetlink(7) alone.

In every ordinary takeover the agent itself drops and claims the program's address, at the exact moment in which its
sockets need it. This is for the watchdog, when nobody may be waited for, and for putting back what others took away.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from typing import Final

from cluster.fencing.netlink import Netlink
from transport.errors import KagemushaError
from transport.netlink_format import (
    ACK,
    CREATE,
    DUMP,
    REPLACE,
    attribute,
    attributes,
    message,
    messages,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_IFA_F_NODAD: Final = 0x02
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ADDRESS: Final = struct.Struct("=BBBBI")
_GONE: Final = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})


class Addresses:
    """One netlink socket, opened ahead."""

    def __init__(self) -> None:
        """Raises KagemushaError."""
        self._netlink = Netlink(socket.NETLINK_ROUTE)

    def drop(self, address: str) -> None:
        """Take `address` ("10.0.0.100/24") off, wherever and with whatever prefix it is; returns when it is not there.

        Raises KagemushaError when that can't be done.
        """
        wanted = ipaddress.ip_interface(address).ip
        while places := self._places(wanted):
            for index, prefix in places:
                code = self._delete(wanted, index, prefix)
                if code not in (0, *_GONE):
                    raise KagemushaError(f"can't take {address} off interface {index}: {os.strerror(code)}")

    def add(self, address: str, interface: str) -> None:
        """Put the address onto an interface of this thread's namespace; no neighbour is told. Idempotent.

        Raises KagemushaError.
        """
        wanted = ipaddress.ip_interface(address)
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            raise KagemushaError(f"there is no interface {interface}", hint="ip link shows them") from None
        flags = _IFA_F_NODAD if wanted.version == 6 else 0
        body = _address(wanted.ip, index, wanted.network.prefixlen, flags)
        code = self._netlink.change(message(_RTM_NEWADDR, ACK | CREATE | REPLACE, body))
        if code:
            raise KagemushaError(f"can't put {address} onto {interface}: {os.strerror(code)}")

    def has(self, address: str) -> bool:
        """Whether an interface has the address, with whatever prefix. Raises KagemushaError."""
        return bool(self._places(ipaddress.ip_interface(address).ip))

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _places(self, wanted: Address) -> list[tuple[int, int]]:
        """The interfaces that have it, and the length of its prefix there."""
        request = _ADDRESS.pack(_family(wanted), 0, 0, 0, 0)
        found: list[tuple[int, int]] = []
        for answer in self._netlink.exchange(message(_RTM_GETADDR, DUMP, request)):
            for kind, body in messages(answer):
                if kind == _RTM_NEWADDR:
                    parts = dict(attributes(body[_ADDRESS.size :]))
                    if parts.get(_IFA_LOCAL, parts.get(_IFA_ADDRESS)) == wanted.packed:
                        _, prefix, _, _, index = _ADDRESS.unpack_from(body)
                        found.append((index, prefix))
        return found

    def _delete(self, address: Address, index: int, prefix: int) -> int:
        """Delete it once; gives 0 or the errno."""
        return self._netlink.change(message(_RTM_DELADDR, ACK, _address(address, index, prefix, 0)))


def has_address(address: str) -> bool:
    """`Addresses.has`, asked once. Raises KagemushaError."""
    addresses = Addresses()
    try:
        return addresses.has(address)
    finally:
        addresses.close()


def _address(address: Address, index: int, prefix: int, flags: int) -> bytes:
    packed = address.packed
    head = _ADDRESS.pack(_family(address), prefix, flags, 0, index)
    return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
