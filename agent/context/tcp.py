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
from collections.abc import Callable, Sequence
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
from agent.kernel.sock_diag import QUEUES, STATE_AT, Row
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
_CONNECTED_STATES: Final = (sock_diag.ESTABLISHED, sock_diag.CLOSE_WAIT)
_NO_QUEUES: Final = bytes(8)

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
    from it a later record can be told without another look. busy: it was not looked into. told: `data` is the record of
    this row; else it is made after the stop, for a row that was read at `wall_ms` (CLOCK_REALTIME) and `clock_ms`
    (CLOCK_MONOTONIC)."""

    family: int
    row: bytes
    flags: int
    data: bytes
    options: bytes
    times: int
    anchor: Anchor | None
    busy: bool = False
    told: bool = True
    wall_ms: int = 0
    clock_ms: float = 0.0

    def tell(self) -> bytes:
        """The record."""
        if not self.told:
            row = Row.read(self.row)
            self.data = pack(self._noted(row) if self.busy or self.anchor is None else self._at(self.anchor, row))
            self.told = True
        return self.data

    def _at(self, anchor: Anchor, row: Row) -> Tcp:
        """Of a connection with empty queues, from its counters."""
        counters = (row.bytes_acknowledged, row.bytes_received, row.send_window, row.receive_window)
        connection = _flat(anchor.at(*counters, clock_ms=self.clock_ms))
        shut = bool(row.shutdown & _RECEIVING)
        ends, options = addresses_of(row), self.options
        return Tcp(self.family, CONNECTED, self.flags, *ends, 0, shut, options, connection, self.wall_ms)

    def _noted(self, row: Row) -> Tcp:
        """Of a connection that is not looked into now."""
        role = BUSY if row.state in _CONNECTED_STATES else UNCONNECTED
        return Tcp(self.family, role, self.flags, *addresses_of(row), 0, False, self.options, None, 0)


class TcpKind:
    """Captures and restores TCP sockets of one program."""

    name = "tcp"
    depends: Depends = "content"

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[int, _Known] = {}
        self._reads = 0

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is a TCP socket, of IPv4 or IPv6."""
        return self._network.protocol(look, walk) in ("TCP", "TCPv6")

    def capture(self, look: Look, walk: Walk) -> bytes:
        """One socket's record."""
        self._network.tcp(walk)
        return self.read([look], walk)()[0]

    def read(self, looks: Sequence[Look], walk: Walk) -> Callable[[], list[bytes]]:
        """Read all sockets of the program at its stop; what it gives makes their records, when the program runs again.

        A socket to which nothing has happened keeps its record.
        """
        rows = self._network.tcp(walk, looks)
        found = [self._known.get(look.inode) for look in looks]
        moved: list[tuple[int, bytes]] = []
        for index, look in enumerate(looks):
            known, row = found[index], rows[look.inode]
            if known is None or known.row != row or known.flags != look.flags or known.busy:
                moved.append((index, row))
        if moved:
            settled = self._settled(found, moved, looks, walk)
            self._reads = max(_READS_MIN, sum(known.busy for known in found if known is not None) // _READS_SHARE)
            for index, row in moved:
                found[index] = self._look_into(looks[index], row, found[index], settled, walk)
        return lambda: [known.tell() for known in found if known is not None]

    def _settled(
        self, found: Sequence[_Known | None], moved: Sequence[tuple[int, bytes]], looks: Sequence[Look], walk: Walk
    ) -> set[int]:
        """The moved connections whose rows alone say what they are now."""
        quiet = []
        for index, row in moved:
            known = found[index]
            if known is None or known.anchor is None or known.row == row or _is_fresh(known.times + 1):
                continue
            if row[STATE_AT] == sock_diag.ESTABLISHED and row[QUEUES] == _NO_QUEUES:
                quiet.append(looks[index].inode)
        return self._network.settled(walk, quiet) if quiet else set()

    def _look_into(self, look: Look, row: bytes, known: _Known | None, settled: set[int], walk: Walk) -> _Known:
        """What is known now of a socket to which something may have happened."""
        same = known is not None and known.row == row and known.flags == look.flags
        # Options change without a trace, most of all just after a connection was accepted.
        times = known.times + 1 if known is not None else 0
        if known is not None and look.inode in settled:
            known.row, known.flags, known.times, known.busy, known.told = row, look.flags, times, False, False
            known.wall_ms, known.clock_ms = time.time_ns() // 1_000_000, time.monotonic() * 1000
            return known
        if row[STATE_AT] in _CONNECTED_STATES and not walk.exact and not (same and self._may_read()):
            return self._note(look, walk, row, known)
        family = FAMILY_OF[self._network.protocol(look, walk)]
        duplicate = adopt(get_descriptor(walk.pidfd, look.number), family)
        try:
            options = known.options if known is not None and not _is_fresh(times) else _options(duplicate, family)
            record, anchor = _read(duplicate, family, Row.read(row), look.flags, options)
        finally:
            discard(duplicate)
        known = _Known(family, row, look.flags, pack(record), options, times, anchor)
        self._remember(look, walk, known)
        return known

    def _note(self, look: Look, walk: Walk, row: bytes, known: _Known | None) -> _Known:
        """A connection that is not looked into at this stop."""
        if known is None:
            family = FAMILY_OF[self._network.protocol(look, walk)]
            known = _Known(family, row, look.flags, b"", _NO_OPTIONS, -1, None, busy=True, told=False)
            self._remember(look, walk, known)
        elif not known.busy or known.flags != look.flags or known.row[STATE_AT] != row[STATE_AT]:
            known.told = False
        known.row, known.flags, known.busy = row, look.flags, True
        return known

    def _may_read(self) -> bool:
        """Whether one more connection may be read exactly at this stop: a few, or a share of those that wait for it."""
        self._reads -= 1
        return self._reads >= 0

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """States that are not carried."""
        state = Row.read(self._network.tcp(walk)[look.inode]).state
        if state in _ROLES or state == sock_diag.CLOSE:
            return []
        what = f"a TCP connection in state {sock_diag.STATE_NAMES[state]}, which a takeover resets"
        return [Reason(what, walk.where(look.number), lost=True)]

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Make an empty socket at its number; `agent.network.restored_sockets` makes of it what the record says."""
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


def _is_fresh(times: int) -> bool:
    """Whether a socket that is looked into for the `times`th time has its options read, too."""
    return times < _OPTIONS_AT_FIRST or times % _OPTIONS_EVERY == 0


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
