"""Whether somebody else on the link has an address already, and who: asked before it is claimed.

IPv4: an ARP probe (RFC 5227, section 2.1), whose sender has no address, so nobody's memory is changed. IPv6: a
neighbour solicitation of the unspecified address (RFC 4862, section 5.4), which is answered to everybody.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from transport.errors import KagemushaError

WAIT_S: Final = 0.2
AGAIN_S: Final = 0.05
_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ARP: Final = struct.Struct(">HHBBH6s4s6s4s")
_ETHERNET_BYTES: Final = 14
_ICMPV6_FILTER: Final = 1

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressInUse(KagemushaError):
    """Somebody else has the address."""


class Probe:
    """One question to the link, and its answer once there is one. Use `probing`."""

    def __init__(self, address: Address, interface: str) -> None:
        self.found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._address = address
        self._interface = interface
        self._sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._receiver: socket.socket | None = None
        try:
            self._sender.bind((interface, 0))
            self._hardware = bytes(self._sender.getsockname()[4])
            self._receiver = self._listen()
        except BaseException:
            self.close()
            raise
        asyncio.get_running_loop().add_reader(self._receiver.fileno(), self._hear)

    def ask(self) -> None:
        """Ask (again)."""
        frame = question(self._address, self._hardware)
        try:
            self._sender.send(frame)
        except OSError:
            pass  # A link that is down has nobody on it.

    async def judge(self, wait_s: float) -> None:
        """Raise AddressInUse when somebody has answered by now, or does within `wait_s` seconds."""
        if wait_s > 0 and not self.found.done():
            limit_s = asyncio.get_running_loop().time() + wait_s
            while (left_s := limit_s - asyncio.get_running_loop().time()) > 0 and not self.found.done():
                await asyncio.wait([self.found], timeout=min(left_s, AGAIN_S))
                self.ask()
        if self.found.done():
            raise AddressInUse(
                f"{self._address} is used by {self.found.result()} on {self._interface} already",
                hint="choose an address that is free, or take it from there",
            )

    def close(self) -> None:
        """Hear nothing more."""
        loop = asyncio.get_running_loop()
        if self._receiver is not None:
            loop.remove_reader(self._receiver.fileno())
        # The kernel closes a packet socket after an RCU grace period: 15 ms that nobody needs to wait for.
        for one in filter(None, (self._receiver, self._sender)):
            loop.run_in_executor(None, one.close)

    def _listen(self) -> socket.socket:
        if self._address.version == 4:
            # One that hears everything at first would be bound after a grace period, too.
            receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            receiver.bind((self._interface, _ETH_P_ARP))
        else:
            receiver = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface.encode())
            # Everything is blocked but advertisements (RFC 3542, section 3.2).
            blocked = bytearray(b"\xff" * 32)
            word = struct.unpack_from("=I", blocked, 4 * (_ADVERTISEMENT >> 5))[0]
            struct.pack_into("=I", blocked, 4 * (_ADVERTISEMENT >> 5), word & ~(1 << (_ADVERTISEMENT & 31)))
            receiver.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, bytes(blocked))
        receiver.setblocking(False)
        return receiver

    def _hear(self) -> None:
        if self._receiver is None:
            return
        try:
            while True:
                who = owner(self._receiver.recv(2048), self._address, self._hardware)
                if who and not self.found.done():
                    self.found.set_result(who)
        except BlockingIOError:
            return
        except OSError:
            return  # The link went down.


@asynccontextmanager
async def probing(address: str, interface: str) -> AsyncIterator[Probe]:
    """Ask once, and hear answers within the block. Raises KagemushaError: no such interface."""
    try:
        probe = Probe(ipaddress.ip_interface(address).ip, interface)
    except OSError as error:
        raise KagemushaError(f"interface {interface}: {error.strerror}", hint="ip link shows them") from None
    try:
        probe.ask()
        yield probe
    finally:
        probe.close()


async def has_one_of(hardware: str, addresses: Iterable[str], interface: str, wait_s: float = WAIT_S) -> bool:
    """Whether the machine with this hardware address, as `AddressInUse` names it, answers for one of these addresses.

    A kernel answers on every interface for all addresses of its machine (ip-sysctl, arp_ignore). Raises KagemushaError:
    no such interface.
    """
    async with AsyncExitStack() as stack:
        probes = [await stack.enter_async_context(probing(one, interface)) for one in addresses]
        answers = {one.found for one in probes}
        limit_s = asyncio.get_running_loop().time() + wait_s
        while (left_s := limit_s - asyncio.get_running_loop().time()) > 0 and answers:
            done, answers = await asyncio.wait(answers, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if any(one.result() == hardware for one in done):
                return True
        return False


def question(address: Address, hardware: bytes) -> bytes:
    """The Ethernet frame that asks who has the address. hardware: the asker's, 6 bytes."""
    if isinstance(address, ipaddress.IPv4Address):
        arp = _ARP.pack(1, 0x0800, 6, 4, 1, hardware, bytes(4), bytes(6), address.packed)
        return b"\xff" * 6 + hardware + struct.pack(">H", _ETH_P_ARP) + arp
    group = ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)
    body = struct.pack(">BBHI", _SOLICITATION, 0, 0, 0) + address.packed
    pseudo = bytes(16) + group.packed + struct.pack(">II", len(body), socket.IPPROTO_ICMPV6)
    body = body[:2] + struct.pack(">H", _checksum(pseudo + body)) + body[4:]
    header = struct.pack(">IHBB", 0x60000000, len(body), socket.IPPROTO_ICMPV6, 255) + bytes(16) + group.packed
    return b"\x33\x33" + group.packed[12:] + hardware + struct.pack(">H", _ETH_P_IPV6) + header + body


def owner(heard: bytes, address: Address, hardware: bytes) -> str:
    """Who says in this frame (ARP) or message (ICMPv6) that it has the address: its hardware address, "" for nobody.

    hardware: of the asker, who is nobody else.
    """
    if isinstance(address, ipaddress.IPv4Address):
        if len(heard) < _ETHERNET_BYTES + _ARP.size:
            return ""
        _, _, _, _, _, sender, sender_address, _, _ = _ARP.unpack_from(heard, _ETHERNET_BYTES)
        has = sender_address == address.packed and sender != hardware
        return sender.hex(":") if has else ""
    if len(heard) < 24 or heard[0] != _ADVERTISEMENT or heard[8:24] != address.packed:
        return ""
    at = 24
    while at + 8 <= len(heard) and heard[at + 1]:
        if heard[at] == 2:
            sender = heard[at + 2 : at + 8]
            return sender.hex(":") if sender != hardware else ""
        at += 8 * heard[at + 1]
    return "somebody"


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
