"""Catching what arrives for one address, as whole frames, and sending it on to another machine of the same link.

A packet socket (packet(7)) sees frames before the network layer does, so also those for an address that this machine
has no more. PACKET_VNET_HDR keeps what the kernel knows beside a frame: that its checksum is still to be computed, or
that it is larger than the link allows and will be cut (linux/virtio_net.h).
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import numpy as np

from agent.errors import KernelError
from agent.kernel.rtnetlink import Link

Address = IPv4Address | IPv6Address

VNET_BYTES: Final = 10
FRAME_BYTES_MAX: Final = VNET_BYTES + (1 << 16) + 64

_ETH_P_ALL, _ETH_P_IP, _ETH_P_ARP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_BUFFER_BYTES: Final = 8 << 20

# linux/bpf_common.h: load a word, a half, a byte at an absolute place; jump if equal; return.
_LD_W, _LD_H, _LD_B, _JEQ, _RET = 0x20, 0x28, 0x30, 0x15, 0x06
_AD_PKTTYPE, _PACKET_OUTGOING = 0xFFFFF004, 4  # SKF_AD_OFF + SKF_AD_PKTTYPE: beside the packet, not in it
_WHOLE: Final = 0x40000
# Places in an Ethernet frame: of its type, of the addresses in IPv4, ARP (RFC 826) and IPv6 headers, of a neighbour
# advertisement's type and target (RFC 4861, section 4.4).
_TYPE, _IPV4_TO, _ARP_HARDWARE, _ARP_FROM, _IPV6_NEXT, _IPV6_TO, _NA_TYPE, _NA_TARGET = 12, 30, 22, 28, 20, 38, 54, 62
_ICMPV6, _NEIGHBOUR_ADVERTISEMENT = 58, 136


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _filter(address: Address) -> bytes:
    """Pass incoming frames to the address, and announcements of it; nothing else.

    Every test that fails jumps to the next block, the last of which drops. A jump counts the instructions it passes.
    """
    drop, take = _instruction(_RET, 0), _instruction(_RET, _WHOLE)
    incoming = _instruction(_LD_B, _AD_PKTTYPE) + _instruction(_JEQ, _PACKET_OUTGOING, 0, 1) + drop
    if isinstance(address, IPv4Address):
        tests = [
            [(_LD_H, _TYPE, _ETH_P_IP), (_LD_W, _IPV4_TO, int(address))],
            [(_LD_H, _TYPE, _ETH_P_ARP), (_LD_W, _ARP_FROM, int(address))],
        ]
    else:
        words = struct.unpack(">4I", address.packed)
        tests = [
            [(_LD_H, _TYPE, _ETH_P_IPV6), *((_LD_W, _IPV6_TO + 4 * at, word) for at, word in enumerate(words))],
            [
                (_LD_H, _TYPE, _ETH_P_IPV6),
                (_LD_B, _IPV6_NEXT, _ICMPV6),
                (_LD_B, _NA_TYPE, _NEIGHBOUR_ADVERTISEMENT),
                *((_LD_W, _NA_TARGET + 4 * at, word) for at, word in enumerate(words)),
            ],
        ]
    blocks = b"".join(_block(test) + take for test in tests)
    return incoming + blocks + drop


def _block(test: list[tuple[int, int, int]]) -> bytes:
    """All of (how to load, where, what it must be); if one is not, go on behind the instruction after the block."""
    last = 2 * len(test)
    return b"".join(
        _instruction(load, where) + _instruction(_JEQ, value, 0, last - (2 * number + 2) + 1)
        for number, (load, where, value) in enumerate(test)
    )


class FrameCatcher:
    """Catches frames for one address on one link; opened ahead, in the link's network namespace. Costs nothing until
    `begin`."""

    def __init__(self, link: Link, address: Address) -> None:
        self.link = link
        self.address = address
        code = np.frombuffer(_filter(address), dtype=np.uint8)
        try:
            # Protocol 0: nothing is caught before it is bound.
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_PACKET, kind, 0)
            attached = struct.pack("@HL", len(code) // 8, code.ctypes.data)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        except OSError as error:
            raise KernelError("packet socket", f"interface {link.name}", error.errno or 0) from error

    def begin(self) -> None:
        """Catch from now on."""
        try:
            self._socket.bind((self.link.name, _ETH_P_ALL))
        except OSError as error:
            raise KernelError("packet socket", f"interface {self.link.name}", error.errno or 0) from error

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._socket.fileno()

    def read(self) -> bytes | None:
        """The next frame that was caught, with what the kernel knows of it in front; None: there is none now."""
        while True:
            try:
                return self._socket.recv(FRAME_BYTES_MAX)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # the link was down and may be up again
                    raise KernelError("packet socket", f"interface {self.link.name}", error.errno or 0) from error

    def send_on(self, frame: bytes, hardware: bytes) -> bool:
        """Send a caught frame to the machine with that hardware address; False if the link does not take it."""
        try:
            self._socket.send(frame[:VNET_BYTES] + hardware + self.link.hardware + frame[VNET_BYTES + 12 :])
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close it. The kernel waits for a grace period, some milliseconds."""
        self._socket.close()


def announced_by(frame: bytes) -> bytes | None:
    """The hardware address that a caught frame announces for the address; None if it is no announcement."""
    frame = frame[VNET_BYTES:]
    (kind,) = struct.unpack_from(">H", frame, _TYPE)
    if kind == _ETH_P_ARP:
        return frame[_ARP_HARDWARE : _ARP_HARDWARE + 6]
    if kind == _ETH_P_IPV6 and frame[_IPV6_NEXT] == _ICMPV6 and frame[_NA_TYPE] == _NEIGHBOUR_ADVERTISEMENT:
        return frame[6:12]
    return None
