"""TCP segments over IPv4 as packet sockets give them: which of them the kernel is to keep, and what is in them.

Classic BPF programs are of linux/filter.h; offsets are those of Ethernet frames, RFC 791 and RFC 9293.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

ETH_P_ALL, ETH_P_IP = 0x0003, 0x0800
ETHERNET_BYTES: Final = 14
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h

Instruction = tuple[int, int, int, int]
"""Opcode, how many to pass over where it is so and where not, operand."""


def from_address(address: str, keep_bytes: int) -> list[Instruction]:
    """Keep so much of every segment from this address."""
    return [
        (0x28, 0, 0, 12),
        (0x15, 0, 5, ETH_P_IP),
        (0x30, 0, 0, ETHERNET_BYTES + 9),
        (0x15, 0, 3, socket.IPPROTO_TCP),
        (0x20, 0, 0, ETHERNET_BYTES + 12),
        (0x15, 0, 1, int(IPv4Address(address))),
        (0x06, 0, 0, keep_bytes),
        (0x06, 0, 0, 0),
    ]


def from_port(port: int, keep_bytes: int) -> list[Instruction]:
    """Keep so much of every segment from this port (0: nothing)."""
    return [
        (0x28, 0, 0, 12),
        (0x15, 0, 6, ETH_P_IP),
        (0x30, 0, 0, ETHERNET_BYTES + 9),
        (0x15, 0, 4, socket.IPPROTO_TCP),
        (0xB1, 0, 0, ETHERNET_BYTES),
        (0x48, 0, 0, ETHERNET_BYTES),
        (0x15, 0, 1, port),
        (0x06, 0, 0, keep_bytes),
        (0x06, 0, 0, 0),
    ]


def keep_only(socket_: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel keep what this program says, from now on."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    where = struct.pack("@HP", len(program), ctypes.addressof(code))
    socket_.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)


def has_data(frame: bytes) -> bool:
    """Whether the frame, or its beginning, is a segment that carries bytes of the stream. A packet without a total
    length is one that is divided later, and long."""
    if len(frame) < ETHERNET_BYTES + 20 or frame[ETHERNET_BYTES + 9] != socket.IPPROTO_TCP:
        return False
    total_bytes = int.from_bytes(frame[ETHERNET_BYTES + 2 : ETHERNET_BYTES + 4], "big")
    header_bytes = (frame[ETHERNET_BYTES] & 15) * 4
    tcp = ETHERNET_BYTES + header_bytes
    return total_bytes == 0 or (len(frame) > tcp + 12 and total_bytes > header_bytes + (frame[tcp + 12] >> 4) * 4)


def opens(frame: bytes) -> bool:
    """Whether a segment has SYN set: that of a server accepts a connection."""
    tcp = ETHERNET_BYTES + (frame[ETHERNET_BYTES] & 15) * 4
    return bool(frame[tcp + 13] & 0x02)
