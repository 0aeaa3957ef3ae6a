"""UDP sockets: udp(7). Carried: addresses and options. Datagrams that wait to be read are lost, as UDP may lose any."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Final

from agent.context.kind import Depends, Restore, Walk
from agent.context.look import Look
from agent.context.network import FAMILY_OF, Network
from agent.context.record import pack, unpack
from agent.context.socket_options import pack_options, read_options
from agent.context.tcp import addresses_of
from agent.kernel.libc import NR
from agent.kernel.pidfd import get_descriptor
from agent.kernel.sock_diag import Row
from agent.kernel.tcp_repair import adopt, discard
from agent.reason import Reason

_OPTIONS_EVERY: Final = 16
_FORGET_AT_LEAST: Final = 64


@dataclass(frozen=True, slots=True)
class Udp:
    """One UDP socket. family: AF_INET or AF_INET6. flags: of open(2). local, peer: addresses as bind(2) takes them, b""
    where there is none. options: as `socket_options.pack_options` makes them."""

    family: int
    flags: int
    local: bytes
    peer: bytes
    options: bytes


@dataclass(slots=True)
class _Known:
    identity: bytes
    flags: int
    data: bytes
    times: int


class UdpKind:
    """Captures and restores UDP sockets of one program."""

    name = "udp"
    depends: Depends = "content"

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[int, _Known] = {}

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is a UDP socket, of IPv4 or IPv6."""
        return self._network.protocol(look, walk) in ("UDP", "UDPv6")

    def capture(self, look: Look, walk: Walk) -> bytes:
        """The socket's record; looked at again when it was bound or connected anew, and now and then."""
        row = self._network.udp(walk).get(look.inode)
        local, peer = addresses_of(Row.read(row)) if row else (b"", b"")
        known = self._known.get(look.inode)
        identity = local + peer
        times = known.times + 1 if known is not None else 0
        if known is not None and (known.identity, known.flags) == (identity, look.flags) and times % _OPTIONS_EVERY:
            known.times = times
            return known.data
        family = FAMILY_OF[self._network.protocol(look, walk)]
        duplicate = adopt(get_descriptor(walk.pidfd, look.number), family, socket.SOCK_DGRAM)
        try:
            options = pack_options(read_options(duplicate, family, socket.SOCK_DGRAM))
        finally:
            discard(duplicate)
        data = pack(Udp(family, look.flags, local, peer, options))
        if len(self._known) > _FORGET_AT_LEAST + 2 * len(walk.looks):
            inodes = {other.inode for other in walk.looks.values()}
            self._known = {inode: one for inode, one in self._known.items() if inode in inodes}
        self._known[look.inode] = _Known(identity, look.flags, data, times)
        return data

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """None: what UDP loses, UDP may lose."""
        return []

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Make an empty socket at its number; `agent.network.restored_sockets` makes of it what the record says."""
        record = unpack(Udp, data, key)
        kind = socket.SOCK_DGRAM | (record.flags & os.O_NONBLOCK)
        restore.place(key, restore.batch.add(NR.SOCKET, record.family, kind, 0, name=f"socket of {key}"))
