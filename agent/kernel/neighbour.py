"""Telling the neighbours on a link which machine has an address now.

IPv4: a gratuitous ARP request (RFC 5227, section 3). IPv6: an unsolicited neighbour advertisement with the override
flag (RFC 4861, section 7.2.6). Either makes those who have an entry for the address replace it at once.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import KernelError
from agent.kernel.libc import NR, attempt_held
from agent.kernel.rtnetlink import IFF_LOOPBACK, IFF_NOARP, Link

ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0806, 0x86DD
_ALL_NODES: Final = IPv6Address("ff02::1")
_OVERRIDE: Final = 0x20000000
_UNHEARD: Final = frozenset({errno.ENETDOWN, errno.ENOBUFS})  # the interface is down; its cable is
_TARGET_LINK_ADDRESS: Final = b"\x02\x01"

Address = IPv4Address | IPv6Address


def internet_checksum(data: bytes) -> int:
    """The checksum of RFC 1071 over `data`."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def announcement(address: Address, hardware: bytes) -> bytes:
    """The Ethernet frame that says that `hardware` (6 bytes) has `address` now."""
    if isinstance(address, IPv4Address):
        arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + hardware + address.packed + bytes(6) + address.packed
        return b"\xff" * 6 + hardware + struct.pack(">H", ETHERTYPE_ARP) + arp
    body = struct.pack(">BBHI", 136, 0, 0, _OVERRIDE) + address.packed + _TARGET_LINK_ADDRESS + hardware
    pseudo = address.packed + _ALL_NODES.packed + struct.pack(">II", len(body), socket.IPPROTO_ICMPV6)
    checksum = internet_checksum(pseudo + body)
    body = body[:2] + struct.pack(">H", checksum) + body[4:]
    header = struct.pack(">IHBB", 0x60000000, len(body), socket.IPPROTO_ICMPV6, 255)
    ethernet = b"\x33\x33\x00\x00\x00\x01" + hardware + struct.pack(">H", ETHERTYPE_IPV6)
    return ethernet + header + address.packed + _ALL_NODES.packed + body


class NeighbourSocket:
    """Sends announcements on one link; opened ahead, in the link's network namespace."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._quiet = bool(link.flags & (IFF_LOOPBACK | IFF_NOARP)) or len(link.hardware) != 6
        try:
            # Protocol 0: it only sends.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            self._socket.bind((link.name, 0))
        except OSError as error:
            raise KernelError("packet socket", f"interface {link.name}", error.errno or 0) from error

    def close(self) -> None:
        """Close the packet socket."""
        self._socket.close()

    def announce(self, address: Address, *, times: int = 2) -> bool:
        """Announce `address` on the link; False when the link is down (nobody can hear it). Links without neighbours
        need none."""
        if self._quiet:
            return True
        frame = np.frombuffer(announcement(address, self.link.hardware), dtype=np.uint8)
        for _ in range(times):
            error = self._send(frame)
            if error in _UNHEARD:
                return False
            if error:
                raise KernelError("announcement", f"{address} on {self.link.name}", error)
        return True

    def _send(self, frame: NDArray[np.uint8]) -> int:
        """Send, and give the error number or 0."""
        for _ in range(2):
            # A packet socket reports once that the link has been down, though it is up again (packet(7), "Errors").
            sent = attempt_held(NR.SENDTO, self._socket.fileno(), frame.ctypes.data, len(frame), 0, 0, 0)
            if sent != -errno.ENETDOWN:
                break
        return -min(sent, 0)
