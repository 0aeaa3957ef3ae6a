"""Taking an address off an interface with nothing but a netlink socket (rtnetlink(7)), for the watchdog alone.

In every ordinary takeover the agent itself drops and claims the program's address, at the exact moment in which its
sockets need it. This is for when nobody may be waited for.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from typing import Final

from transport.errors import KagemushaError

_RTM_DELADDR: Final = 21
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_NLMSG_ERROR: Final = 2
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER: Final = struct.Struct("=IHHII")
_EADDRNOTAVAIL, _ENODEV = 99, 19
_ANSWER_S: Final = 1.0


class AddressDropper:
    """One netlink socket, opened ahead."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_ANSWER_S)
        self._number = 0

    def drop(self, address: str, interface: str) -> None:
        """Take `address` ("10.0.0.100/24") off; returns when the kernel says that it is not there.

        Raises KagemushaError when that can't be done.
        """
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            return  # no interface, no address
        while (code := self._delete(ipaddress.ip_interface(address), index)) == 0:
            pass
        if code not in (_EADDRNOTAVAIL, _ENODEV):
            raise KagemushaError(f"can't take {address} off {interface}: {os.strerror(code)}")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _delete(self, address: ipaddress.IPv4Interface | ipaddress.IPv6Interface, index: int) -> int:
        """Delete it once; gives 0 or the errno."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        packed = address.ip.packed
        attributes = b"".join(struct.pack("=HH", 4 + len(packed), kind) + packed for kind in (_IFA_LOCAL, _IFA_ADDRESS))
        body = struct.pack("=BBBBI", family, address.network.prefixlen, 0, 0, index) + attributes
        self._number += 1
        header = _HEADER.pack(_HEADER.size + len(body), _RTM_DELADDR, _NLM_F_REQUEST | _NLM_F_ACK, self._number, 0)
        try:
            self._socket.send(header + body)
            while True:
                answer = self._socket.recv(1 << 16)
                _, kind, _, number, _ = _HEADER.unpack_from(answer)
                if kind == _NLMSG_ERROR and number == self._number:
                    return -int(struct.unpack_from("=i", answer, _HEADER.size)[0])
        except OSError as error:
            raise KagemushaError(f"netlink: {error.strerror or error}") from None
