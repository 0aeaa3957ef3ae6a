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
from collections.abc import Iterator
from typing import Final

from cluster.fencing.netlink import Netlink
from transport.errors import KagemushaError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_REQUEST, _ACK, _DUMP, _CREATE, _REPLACE = 0x1, 0x4, 0x300, 0x400, 0x100
_IFA_F_NODAD: Final = 0x02
_ERROR: Final = 2
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER: Final = struct.Struct("=IHHII")
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
        code = self._code(_message(_RTM_NEWADDR, _ACK | _CREATE | _REPLACE, body))
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
        for answer in self._netlink.exchange(_message(_RTM_GETADDR, _DUMP, request)):
            for kind, body in _messages(answer):
                if kind == _RTM_NEWADDR:
                    parts = dict(_attributes(body[_ADDRESS.size :]))
                    if parts.get(_IFA_LOCAL, parts.get(_IFA_ADDRESS)) == wanted.packed:
                        _, prefix, _, _, index = _ADDRESS.unpack_from(body)
                        found.append((index, prefix))
        return found

    def _delete(self, address: Address, index: int, prefix: int) -> int:
        """Delete it once; gives 0 or the errno."""
        return self._code(_message(_RTM_DELADDR, _ACK, _address(address, index, prefix, 0)))

    def _code(self, request: bytes) -> int:
        for answer in self._netlink.exchange(request):
            for kind, content in _messages(answer):
                if kind == _ERROR:
                    return -int(struct.unpack_from("=i", content)[0])
        raise KagemushaError("netlink: the kernel does not answer")


def _address(address: Address, index: int, prefix: int, flags: int) -> bytes:
    packed = address.packed
    attributes = b"".join(struct.pack("=HH", 4 + len(packed), kind) + packed for kind in (_IFA_LOCAL, _IFA_ADDRESS))
    return _ADDRESS.pack(_family(address), prefix, flags, 0, index) + attributes


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 0, 0) + body


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            return
        yield kind, datagram[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind, data[at + 4 : at + length]
        at += (length + 3) & ~3
