"""Seeing TCP segments of some addresses pass an interface, and sending single ones (packet(7), raw(7)).

A classic BPF program in the kernel passes on only what is wanted: the others cost it some 100 ns and this process
nothing. Segments are read from their network header on, whatever the link is.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import numpy as np

from agent.errors import KernelError
from agent.kernel.neighbour import internet_checksum

Address = IPv4Address | IPv6Address

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_PACKET_OUTGOING: Final = 4
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_AD_PROTOCOL, _AD_PKTTYPE = 0xFFFFF000, 0xFFFFF004  # SKF_AD_OFF + SKF_AD_*: beside the packet, not in it
_SNAP_BYTES: Final = 128
_BUFFER_BYTES: Final = 8 << 20
_IPV6_HEADER_BYTES: Final = 40
_HOP_LIMIT: Final = 64

# linux/bpf_common.h: instruction classes with their sizes and modes.
_LD_W, _LD_H, _LD_B, _LD_B_X, _LDX_MSH = 0x20, 0x28, 0x30, 0x50, 0xB1
_JEQ, _JSET, _AND, _RET = 0x15, 0x45, 0x54, 0x06
_INSTRUCTION: Final = struct.Struct("<HBBI")


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment. data_bytes: the length of what it carries. clock, echo: of the timestamp option, None without.

    outgoing: it left this machine."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    data_bytes: int
    clock: int | None
    echo: int | None
    outgoing: bool


class _Program:
    """A BPF program in the making, with labels for jumps, which only go forward."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str, str, int]] = []
        self._labels: dict[str, int] = {}

    def add(self, code: int, value: int = 0, *, yes: str = "", no: str = "") -> None:
        self._lines.append((code, yes, no, value))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._lines)

    def encode(self) -> bytes:
        def distance(name: str, at: int) -> int:
            return self._labels[name] - at - 1 if name else 0

        return b"".join(
            _INSTRUCTION.pack(code, distance(yes, at), distance(no, at), value)
            for at, (code, yes, no, value) in enumerate(self._lines)
        )


def _filter(addresses: Sequence[Address], *, outgoing: bool) -> bytes:
    """Outgoing: segments from one of the addresses that open or close a connection (SYN+ACK, FIN, RST). Otherwise: all
    incoming segments to one of them."""
    program = _Program()
    program.add(_LD_W, _AD_PKTTYPE)
    program.add(_JEQ, _PACKET_OUTGOING, yes="direction" if outgoing else "drop", no="drop" if outgoing else "direction")
    program.label("direction")
    program.add(_LD_H, _AD_PROTOCOL)
    program.add(_JEQ, _ETH_P_IP, yes="ipv4")
    program.add(_JEQ, _ETH_P_IPV6, yes="ipv6", no="drop")
    program.label("ipv4")
    program.add(_LD_B, 9)
    program.add(_JEQ, socket.IPPROTO_TCP, no="drop")
    program.add(_LD_H, 6)
    program.add(_JSET, 0x1FFF, yes="drop")  # not the first fragment
    program.add(_LD_W, 12 if outgoing else 16)
    for address in addresses:
        if isinstance(address, IPv4Address):
            program.add(_JEQ, int(address), yes="flags4")
    program.add(_RET, 0)
    program.label("flags4")
    program.add(_LDX_MSH, 0)
    program.add(_LD_B_X, 13)
    program.add(_JSET, 0xFF, yes="flags", no="flags")
    program.label("ipv6")
    program.add(_LD_B, 6)
    program.add(_JEQ, socket.IPPROTO_TCP, no="drop")
    for number, address in enumerate(addresses):
        if isinstance(address, IPv6Address):
            for word, value in enumerate(struct.unpack(">4I", address.packed)):
                program.add(_LD_W, (8 if outgoing else 24) + 4 * word)
                program.add(_JEQ, value, yes="flags6" if word == 3 else "", no=f"next{number}")
            program.label(f"next{number}")
    program.label("drop")
    program.add(_RET, 0)
    program.label("flags6")
    program.add(_LD_B, _IPV6_HEADER_BYTES + 13)
    program.label("flags")
    if outgoing:
        program.add(_JSET, FIN | RST, yes="take")
        program.add(_AND, SYN | ACK)
        program.add(_JEQ, SYN | ACK, yes="take")
        program.add(_RET, 0)
    program.label("take")
    program.add(_RET, _SNAP_BYTES)
    return program.encode()


class SegmentTap:
    """Shows TCP segments of some addresses that pass an interface of the network namespace in which it was made; from
    `start` on.

    outgoing: only those that leave and open or close a connection; otherwise all that arrive.
    """

    def __init__(self, addresses: Sequence[Address], interface: str, *, outgoing: bool) -> None:
        code = np.frombuffer(_filter(addresses, outgoing=outgoing), dtype=np.uint8)
        count = len(code) // _INSTRUCTION.size
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            # Protocol 0 until it is bound: no packet gets in before the filter is there.
            self._socket = socket.socket(socket.AF_PACKET, kind, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HL", count, code.ctypes.data))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except OSError as error:
            raise KernelError("packet socket", f"interface {interface}", error.errno or 0) from error
        self._interface = interface

    def start(self) -> None:
        """Listen from now on."""
        try:
            self._socket.bind((self._interface, _ETH_P_ALL))
        except OSError as error:
            raise KernelError("packet socket", f"interface {self._interface}", error.errno or 0) from error

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._socket.fileno()

    def read(self, count_max: int = 512) -> list[Segment]:
        """The segments that have been seen since the last call, at most `count_max`; never waits."""
        segments: list[Segment] = []
        while len(segments) < count_max:
            try:
                data, link = self._socket.recvfrom(_SNAP_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # the interface was taken down; it may come up again
                    continue
                raise KernelError("packet socket", "segments", error.errno or 0) from error
            segment = parse_segment(data, link[1], outgoing=link[2] == _PACKET_OUTGOING)
            if segment is not None:
                segments.append(segment)
        return segments

    def lost(self) -> int:
        """How many segments found no room since the last call (packet(7), PACKET_STATISTICS)."""
        _, dropped = struct.unpack("<II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(dropped)

    def close(self) -> None:
        """Close it. The kernel waits for a grace period, some milliseconds."""
        self._socket.close()


def parse_segment(data: bytes, protocol: int, *, outgoing: bool) -> Segment | None:
    """Read a packet from its network header on; None if it is no TCP segment, or too short."""
    source: Address
    destination: Address
    if protocol == _ETH_P_IP and len(data) >= 20 and data[0] & 15 >= 5 and data[9] == socket.IPPROTO_TCP:
        at = (data[0] & 15) * 4
        length = int.from_bytes(data[2:4], "big")
        source, destination = IPv4Address(data[12:16]), IPv4Address(data[16:20])
    elif protocol == _ETH_P_IPV6 and len(data) >= _IPV6_HEADER_BYTES and data[6] == socket.IPPROTO_TCP:
        at = _IPV6_HEADER_BYTES
        length = at + int.from_bytes(data[4:6], "big")
        source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    else:
        return None
    if len(data) < at + 20:
        return None
    source_port, destination_port, sequence, acknowledgement, offset, flags = struct.unpack_from(">HHIIBB", data, at)
    header_bytes = (offset >> 4) * 4
    clock, echo = _timestamps(data[at + 20 : at + header_bytes])
    return Segment(
        source,
        source_port,
        destination,
        destination_port,
        sequence,
        acknowledgement,
        flags,
        max(length - at - header_bytes, 0),
        clock,
        echo,
        outgoing,
    )


def _timestamps(options: bytes) -> tuple[int | None, int | None]:
    """The two clocks of the timestamp option (RFC 7323, section 3.2)."""
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= len(options) or options[at + 1] < 2:
            break
        if kind == 8 and at + 10 <= len(options):
            clock, echo = struct.unpack_from(">II", options, at + 2)
            return clock, echo
        at += options[at + 1]
    return None, None


class SegmentSender:
    """Sends single TCP segments, made by hand, from addresses of this machine."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                # With this protocol the IP header is part of what is sent, in either family.
                self._sockets[family] = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise KernelError("raw socket", f"family {family}", error.errno or 0) from error

    def send(
        self,
        source: Address,
        source_port: int,
        destination: Address,
        port: int,
        *,
        sequence: int,
        ack: int,
        flags: int,
        clock: int | None = None,
        data: bytes = b"",
    ) -> bool:
        """Send one segment; False if there is no way to the destination now. clock: for the timestamp option."""
        options = b"" if clock is None else struct.pack(">BBBBII", 1, 1, 8, 10, clock & 0xFFFFFFFF, 0)
        words = 5 + len(options) // 4
        tcp = struct.pack(">HHIIBBHHH", source_port, port, sequence, ack, words << 4, flags, 0, 0, 0) + options + data
        pseudo = source.packed + destination.packed + struct.pack(">II", len(tcp), socket.IPPROTO_TCP)
        tcp = tcp[:16] + struct.pack(">H", internet_checksum(pseudo + tcp)) + tcp[18:]
        if isinstance(source, IPv4Address):
            family, target = socket.AF_INET, (str(destination), 0)
            # The kernel fills in length, identification and checksum (raw(7)).
            header = struct.pack(">BBHHHBBH", 0x45, 0, 0, 0, 0x4000, _HOP_LIMIT, socket.IPPROTO_TCP, 0)
        else:
            family, target = socket.AF_INET6, (str(destination), 0)
            header = struct.pack(">IHBB", 0x60000000, len(tcp), socket.IPPROTO_TCP, _HOP_LIMIT)
        try:
            self._sockets[family].sendto(header + source.packed + destination.packed + tcp, target)
        except (OSError, KeyError):
            return False
        return True

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets.values():
            one.close()
