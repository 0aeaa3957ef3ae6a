"""TCP sockets: tcp(7). What is carried: established connections (also those that the peer has half closed), with their
queues and windows; listening sockets; sockets that are not connected.

A connection that is being opened or closed (SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK) is not: after a takeover
the program finds an unconnected socket in its place, and the peer is reset. Connections that the program has not
accepted yet belong to no descriptor and are reset, too.

Which sockets changed is told by one question to sock_diag: a connection whose row is the same keeps its record, byte
for byte. The others are read exactly (`agent.kernel.tcp_repair`).
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

from agent.context.kind import Depends, Restore, Walk
from agent.context.look import Look
from agent.context.network import FAMILY_OF, Network
from agent.context.record import pack, unpack
from agent.context.socket_options import option_plan, pack_options, read_options
from agent.kernel import sock_diag
from agent.kernel.libc import NR
from agent.kernel.pidfd import get_descriptor
from agent.kernel.sock_diag import Row
from agent.kernel.tcp_repair import Anchor, Connection, Window, adopt, discard, read_connection
from agent.reason import Reason

UNCONNECTED, LISTENING, CONNECTED, HALF_CLOSED, BUSY = range(5)
"""What a record's socket is. HALF_CLOSED: the peer sends nothing more (CLOSE_WAIT). BUSY: connected, but bytes were on
their way in it at the stop, so that it can't be continued from this checkpoint."""

_ROLES: Final = {
    sock_diag.LISTEN: LISTENING,
    sock_diag.ESTABLISHED: CONNECTED,
    sock_diag.CLOSE_WAIT: HALF_CLOSED,
}
_RECEIVING: Final = 1  # bit of INET_DIAG_SHUTDOWN
_OPTIONS_EVERY: Final = 16
_OPTIONS_AT_FIRST: Final = 2
_FORGET_AT_LEAST: Final = 64
_READS_MIN: Final = 4
_READS_SHARE: Final = 20
_NO_OPTIONS: Final = pack_options(())

_ConnectionFields = tuple[int, int, bytes, int, bytes, int, int, int, int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Tcp:
    """One TCP socket.

    family: AF_INET or AF_INET6. role: UNCONNECTED, LISTENING, CONNECTED, HALF_CLOSED or BUSY. flags: of open(2). local,
    peer: addresses as bind(2) takes them, b"" where there is none. backlog: of listen(2). shut: the program has shut
    down receiving. options: as `socket_options.pack_options` makes them. connection: the fields of `Connection`, its
    window's at the end; None unless connected. captured_ms: CLOCK_REALTIME of the moment to which the connection's
    timestamp belongs, in ms.
    """

    family: int
    role: int
    flags: int
    local: bytes
    peer: bytes
    backlog: int
    shut: bool
    options: bytes
    connection: _ConnectionFields | None
    captured_ms: int

    def state(self) -> Connection:
        """The connection of a socket that is CONNECTED or HALF_CLOSED. Raises ValueError for the others."""
        if self.connection is None:
            raise ValueError("this TCP socket is not connected")
        values = self.connection
        return Connection(*values[:10], Window(*values[10:]))


@dataclass(slots=True)
class _Known:
    """What was found last time: the kernel's row, the descriptor's flags, what was made of them, and how often. anchor:
    from it a later record can be told without another look. busy: it was not looked into."""

    row: bytes
    flags: int
    data: bytes
    options: bytes
    times: int
    anchor: Anchor | None
    busy: bool = False


class TcpKind:
    """Captures and restores TCP sockets of one program."""

    name = "tcp"
    depends: Depends = "content"

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[int, _Known] = {}
        self._walk: Walk | None = None
        self._settled: set[int] = set()
        self._reading: Walk | None = None
        self._reads = 0

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is a TCP socket, of IPv4 or IPv6."""
        return self._network.protocol(look, walk) in ("TCP", "TCPv6")

    def capture(self, look: Look, walk: Walk) -> bytes:
        """The socket's record: the one before, if nothing has happened to the socket."""
        row = self._network.tcp(walk)[look.inode]
        known = self._known.get(look.inode)
        same = known is not None and known.row == row and known.flags == look.flags
        if known is not None and same and not known.busy:
            return known.data
        family = FAMILY_OF[self._network.protocol(look, walk)]
        # Options change without a trace, most of all just after a connection was accepted.
        times = known.times + 1 if known is not None else 0
        fresh = known is None or times < _OPTIONS_AT_FIRST or times % _OPTIONS_EVERY == 0
        if known is not None and known.anchor is not None and not fresh and look.inode in self._settled_in(walk):
            record = _told(known.anchor, family, Row.read(row), look.flags, known.options)
            known.row, known.flags, known.data, known.times = row, look.flags, pack(record), times
            known.busy = False
            return known.data
        connected = Row.read(row).state in (sock_diag.ESTABLISHED, sock_diag.CLOSE_WAIT)
        if connected and not walk.exact and not (same and self._may_read(walk)):
            return self._note(look, walk, family, row, known)
        duplicate = adopt(get_descriptor(walk.pidfd, look.number), family)
        try:
            options = known.options if known is not None and not fresh else _options(duplicate, family)
            record, anchor = _read(duplicate, family, Row.read(row), look.flags, options)
        finally:
            discard(duplicate)
        data = pack(record)
        self._remember(look, walk, _Known(row, look.flags, data, options, times, anchor))
        return data

    def _note(self, look: Look, walk: Walk, family: int, row: bytes, known: _Known | None) -> bytes:
        """The record of a connection that is not looked into at this stop."""
        if known is None:
            known = _Known(row, look.flags, b"", _NO_OPTIONS, -1, None)
            self._remember(look, walk, known)
        seen, before = Row.read(row), Row.read(known.row)
        if not (known.busy and known.flags == look.flags and before.state == seen.state):
            known.data = pack(_busy(family, seen, look.flags, known.options))
        known.row, known.flags, known.busy = row, look.flags, True
        return known.data

    def _may_read(self, walk: Walk) -> bool:
        """Whether one more connection may be read exactly at this stop: a few, or a share of those that wait for it."""
        if self._reading is not walk:
            self._reading = walk
            waiting = sum(known.busy for known in self._known.values())
            self._reads = max(_READS_MIN, waiting // _READS_SHARE)
        self._reads -= 1
        return self._reads >= 0

    def _settled_in(self, walk: Walk) -> set[int]:
        """The changed connections whose rows alone say what they are now; asked for once in a walk."""
        if self._walk is not walk:
            self._walk = walk
            rows = self._network.tcp(walk)
            changed = (inode for inode, row in rows.items() if inode in self._known and self._known[inode].row != row)
            self._settled = self._network.settled(walk, changed)
        return self._settled

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """States that are not carried."""
        state = Row.read(self._network.tcp(walk)[look.inode]).state
        if state in _ROLES or state == sock_diag.CLOSE:
            return []
        what = f"a TCP connection in state {sock_diag.STATE_NAMES[state]}, which a takeover resets"
        return [Reason(what, walk.where(look.number), lost=True)]

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Make an empty socket at its number; `agent.restored_sockets` makes of it what the record says."""
        record = decoded(data)
        kind = socket.SOCK_STREAM | (record.flags & os.O_NONBLOCK)
        restore.place(key, restore.batch.add(NR.SOCKET, record.family, kind, 0, name=f"socket of {key}"))

    def check(self, key: str, data: bytes, root: str) -> None:
        """Ahead of a takeover: decode the record, and find out what its options ask of a new socket here."""
        record = decoded(data)
        option_plan(record.options, record.family, socket.SOCK_STREAM)

    def _remember(self, look: Look, walk: Walk, known: _Known) -> None:
        if len(self._known) > _FORGET_AT_LEAST + 2 * len(walk.looks):
            inodes = {other.inode for other in walk.looks.values()}
            self._known = {inode: one for inode, one in self._known.items() if inode in inodes}
        self._known[look.inode] = known


@functools.lru_cache(maxsize=8192)
def decoded(data: bytes) -> Tcp:
    """The record in `data`. Raises RestoreError."""
    return unpack(Tcp, data)


def _options(duplicate: socket.socket, family: int) -> bytes:
    return pack_options(read_options(duplicate, family, socket.SOCK_STREAM))


def socket_address(family: int, address: bytes, port: int, interface: int) -> bytes:
    """An address as bind(2) takes it. address: 16 bytes, of which IPv4 has the first four."""
    if family == socket.AF_INET:
        return struct.pack("<H", family) + struct.pack(">H", port) + address[:4] + bytes(8)
    # A link-local address means something only together with its interface.
    scope = interface if address[0] == 0xFE and address[1] & 0xC0 == 0x80 else 0
    return struct.pack("<H", family) + struct.pack(">HI", port, 0) + address + struct.pack("<I", scope)


def addresses_of(row: Row) -> tuple[bytes, bytes]:
    """Local and peer address of a socket as bind(2) takes them; b"" where there is none."""
    family, port = row.family, row.peer_port
    local = socket_address(family, row.local, row.local_port, row.interface)
    return local, socket_address(family, row.peer, port, row.interface) if port else b""


def _read(duplicate: socket.socket, family: int, row: Row, flags: int, options: bytes) -> tuple[Tcp, Anchor | None]:
    """The record of a socket, read exactly."""
    role = _ROLES.get(row.state, UNCONNECTED)
    local, peer = addresses_of(row)
    shut = bool(row.shutdown & _RECEIVING)
    if role == LISTENING:
        return Tcp(family, role, flags, local, b"", row.send_queue, shut, options, None, 0), None
    if role == UNCONNECTED:
        bound = row.state == sock_diag.CLOSE and row.local_port != 0
        return Tcp(family, role, flags, local if bound else b"", b"", 0, False, options, None, 0), None
    captured_ms = time.time_ns() // 1_000_000
    state, anchor = read_connection(duplicate)
    role = _ROLES.get(state.state, UNCONNECTED)
    if role not in (CONNECTED, HALF_CLOSED):  # reset by its peer a moment ago
        return Tcp(family, UNCONNECTED, flags, b"", b"", 0, False, options, None, 0), None
    return Tcp(family, role, flags, local, peer, 0, shut, options, _flat(state), captured_ms), anchor


def _told(anchor: Anchor, family: int, row: Row, flags: int, options: bytes) -> Tcp:
    """The record of a connection with empty queues, from its counters."""
    captured_ms = time.time_ns() // 1_000_000
    counters = (row.bytes_acknowledged, row.bytes_received, row.send_window, row.receive_window)
    state = anchor.at(*counters, clock_ms=time.monotonic() * 1000)
    local, peer = addresses_of(row)
    shut = bool(row.shutdown & _RECEIVING)
    return Tcp(family, CONNECTED, flags, local, peer, 0, shut, options, _flat(state), captured_ms)


def _busy(family: int, row: Row, flags: int, options: bytes) -> Tcp:
    """The record of a connection that is not looked into now."""
    local, peer = addresses_of(row)
    role = BUSY if row.state in (sock_diag.ESTABLISHED, sock_diag.CLOSE_WAIT) else UNCONNECTED
    return Tcp(family, role, flags, local, peer, 0, False, options, None, 0)


def _flat(state: Connection) -> _ConnectionFields:
    window = state.window
    return (
        state.state,
        state.send_next,
        state.send_queue,
        state.receive_next,
        state.receive_queue,
        state.mss,
        state.options,
        state.send_scale,
        state.receive_scale,
        state.timestamp,
        window.send_update,
        window.send,
        window.send_max,
        window.receive,
        window.receive_update,
    )
