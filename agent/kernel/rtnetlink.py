"""Addresses and links by rtnetlink(7): what `ip address` and `ip link` do, in 40 us instead of 3 ms."""

from __future__ import annotations

import errno
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

import numpy as np

from agent.errors import KernelError
from agent.kernel.libc import NR, attempt_held
from agent.kernel.netlink import Netlink
from transport.netlink_format import ACK, CREATE, DUMP, REPLACE, REQUEST, attribute, attributes
from transport.waiting import Waiting

NETLINK_ROUTE: Final = 0
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR, RTM_GETROUTE = 16, 18, 20, 21, 22, 26
IFF_UP, IFF_LOOPBACK, IFF_NOARP = 0x1, 0x8, 0x80
IFA_F_NODAD: Final = 0x02

_LINK: Final = struct.Struct("<BBHiII")
_ADDRESS: Final = struct.Struct("<BBBBI")
_ROUTE: Final = struct.Struct("<BBBBBBBBI")
_RTN_LOCAL: Final = 2
_RTA_DST: Final = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFLA_ADDRESS, _IFLA_IFNAME = 1, 3

USABLE_S_MAX: Final = 0.25
"""How long to wait for the kernel's worker to complete an address: it took 10 ms on a busy machine. On a link that is
down it does not come to that, and there is nobody who could miss it."""
_NAP = np.array([0, 20_000], np.int64)
"""A struct timespec."""
_UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface: its index, its flags (IFF_*) and its hardware address (empty where it has none)."""

    index: int
    name: str
    flags: int
    hardware: bytes


class RouteSocket:
    """A netlink socket to the addresses and links of the network namespace in which it was opened."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_ROUTE, "rtnetlink")
        self.waiting = Waiting(self._netlink.answers)

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()

    def link(self, name: str) -> Link:
        """Look a network interface up. Raises KernelError ENODEV."""
        body = _LINK.pack(0, 0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        answer = self._netlink.exchange(RTM_GETLINK, REQUEST, body, f"interface {name}")[0]
        _, _, _, index, flags, _ = _LINK.unpack_from(answer)
        return Link(index, name, flags, dict(attributes(answer[_LINK.size :])).get(_IFLA_ADDRESS, b""))

    def set_link(self, link: Link, *, up: bool) -> None:
        """Bring an interface up or down."""
        body = _LINK.pack(0, 0, 0, link.index, IFF_UP if up else 0, IFF_UP)
        self._netlink.exchange(RTM_NEWLINK, REQUEST | ACK, body, f"interface {link.name}")

    def add_address(self, link: Link, address: Interface) -> None:
        """Give the interface an address, usable when this returns (IPv6: without duplicate address detection).
        Idempotent.

        An IPv6 address is on the interface at once, but what comes for it is dropped until a worker of the kernel has
        made its local route (addrconf_dad_work in net/ipv6/addrconf.c, without the detection, too): that is awaited.
        """
        body = _address(link, address, IFA_F_NODAD if address.version == 6 else 0)
        flags = REQUEST | ACK | CREATE | REPLACE
        self._netlink.exchange(RTM_NEWADDR, flags, body, f"address {address} of {link.name}")
        limit_s = time.monotonic() + USABLE_S_MAX
        while address.version == 6 and not self.is_local(address) and time.monotonic() < limit_s:
            attempt_held(NR.NANOSLEEP, _NAP.ctypes.data, 0)

    def is_local(self, address: Interface) -> bool:
        """Whether this network namespace takes what comes for the address."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, address.packed)
        try:
            answer = self._netlink.exchange(RTM_GETROUTE, REQUEST, body, f"route to {address}")[0]
        except KernelError as error:
            if error.errno in _UNREACHABLE:
                return False
            raise
        kind: int = _ROUTE.unpack_from(answer)[7]
        return kind == _RTN_LOCAL

    def delete_address(self, link: Link, address: Interface) -> bool:
        """Take the address away; False when the interface did not have it."""
        try:
            body = _address(link, address, 0)
            self._netlink.exchange(RTM_DELADDR, REQUEST | ACK, body, f"address {address} of {link.name}")
        except KernelError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
                return False
            raise
        return True

    def has_address(self, link: Link, address: Interface) -> bool:
        """Whether the interface has exactly this address and prefix."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        body = _ADDRESS.pack(family, 0, 0, 0, 0)
        for answer in self._netlink.exchange(RTM_GETADDR, REQUEST | DUMP, body, "addresses"):
            _, prefix, _, _, index = _ADDRESS.unpack_from(answer)
            parts = dict(attributes(answer[_ADDRESS.size :]))
            found = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS)
            if (index, prefix, found) == (link.index, address.network.prefixlen, address.packed):
                return True
        return False


def _address(link: Link, address: Interface, flags: int) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    head = _ADDRESS.pack(family, address.network.prefixlen, flags, 0, link.index)
    return head + attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)
