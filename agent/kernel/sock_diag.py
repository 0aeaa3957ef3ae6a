"""The kernel's list of TCP and UDP sockets (sock_diag(7)), as arrays.

One dump of a thousand sockets costs well below a millisecond, and it names each socket by the inode that also stands in
/proc/PID/fd: so a capture learns which sockets changed without touching any of them. The messages of a dump have few
different layouts (linux/inet_diag.h: struct inet_diag_msg of 72 bytes, then attributes); a run of messages with the
same layout is read as one numpy array.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.errors import KernelError
from agent.kernel.netlink import Netlink, is_end, is_error
from transport.netlink_format import ACK, DUMP, HEADER, REQUEST

Address = IPv4Address | IPv6Address

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
SOCK_DESTROY: Final = 21

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(
    1, 12
)
STATE_NAMES: Final = {
    ESTABLISHED: "ESTABLISHED",
    SYN_SENT: "SYN_SENT",
    SYN_RECV: "SYN_RECV",
    FIN_WAIT1: "FIN_WAIT1",
    FIN_WAIT2: "FIN_WAIT2",
    TIME_WAIT: "TIME_WAIT",
    CLOSE: "CLOSE",
    CLOSE_WAIT: "CLOSE_WAIT",
    LAST_ACK: "LAST_ACK",
    LISTEN: "LISTEN",
    CLOSING: "CLOSING",
}

SOCKET: Final = np.dtype(
    [
        ("family", "u1"),
        ("state", "u1"),
        ("shutdown", "u1"),
        ("scales", "u1"),
        ("local_port", "u2"),
        ("peer_port", "u2"),
        ("local", "u1", 16),
        ("peer", "u1", 16),
        ("interface", "u4"),
        ("cookie", "u8"),
        ("receive_queue", "u4"),
        ("send_queue", "u4"),
        ("inode", "u4"),
        ("unsent", "u4"),
        ("segments_out", "u4"),
        ("segments_in", "u4"),
        ("send_window", "u4"),
        ("receive_window", "u4"),
        ("bytes_acknowledged", "u8"),
        ("bytes_received", "u8"),
        ("bytes_sent", "u8"),
    ]
)
"""One socket. Nothing in it moves while the socket stands still (no timers, no round-trip times): two equal rows mean
that nothing was sent, received, read or written in between. Queues in bytes; of a listening socket `receive_queue` is
how many connections wait to be accepted and `send_queue` how many may. Addresses in network order, IPv4 in the first
four bytes. `scales`: the sender's window scale in the low four bits, the receiver's in the high ones. `shutdown`: 1 =
receiving, 2 = sending. `bytes_received` counts the peer's FIN, too."""

_OFFSETS: Final = {name: place[1] for name, place in (SOCKET.fields or {}).items()}
STATE_AT: Final = _OFFSETS["state"]
"""Where in the bytes of a row the state stands."""
QUEUES: Final = slice(_OFFSETS["receive_queue"], _OFFSETS["inode"])
"""Where in the bytes of a row both queues stand."""

_ROW: Final = struct.Struct("<4B2H16s16sIQ8I3Q")


class Row(NamedTuple):
    """One socket of dtype `SOCKET`, read quickly."""

    family: int
    state: int
    shutdown: int
    scales: int
    local_port: int
    peer_port: int
    local: bytes
    peer: bytes
    interface: int
    cookie: int
    receive_queue: int
    send_queue: int
    inode: int
    unsent: int
    segments_out: int
    segments_in: int
    send_window: int
    receive_window: int
    bytes_acknowledged: int
    bytes_received: int
    bytes_sent: int

    @classmethod
    def read(cls, raw: bytes) -> Row:
        """From the bytes of a row."""
        return cls._make(_ROW.unpack(raw))

    def encode(self) -> bytes:
        """The bytes of the row."""
        return _ROW.pack(*self)


_REQUEST: Final = struct.Struct("<BBBBI2s2s16s16sIII")
REQUEST_BYTES: Final = _REQUEST.size
"""Of what `request` and `request_one` make."""
_NO_COOKIE: Final = 0xFFFFFFFF
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTCONN, errno.ESTALE})
_INFO, _SHUTDOWN = 2, 8
_ATTRIBUTES_AT: Final = 16 + 72
_ALL_STATES: Final = sum(1 << state for state in STATE_NAMES if state not in (SYN_RECV, TIME_WAIT))

# Offsets from the start of the netlink message, and within struct tcp_info (linux/tcp.h).
_MESSAGE_FIELDS: Final = {
    "family": 16,
    "state": 17,
    "local_port": 20,
    "peer_port": 22,
    "local": 24,
    "peer": 40,
    "interface": 56,
    "cookie": 60,
    "receive_queue": 72,
    "send_queue": 76,
    "inode": 84,
}
_INFO_FIELDS: Final = {
    "scales": 6,
    "bytes_acknowledged": 120,
    "bytes_received": 128,
    "segments_out": 136,
    "segments_in": 140,
    "unsent": 144,
    "bytes_sent": 200,
    "send_window": 228,
    "receive_window": 232,
}
_NETWORK_ORDER: Final = frozenset({"local_port", "peer_port"})
_INFO_BYTES_MIN: Final = 236

Sockets = NDArray[np.void]


class SocketDiagnosis:
    """A netlink socket to the list of sockets of the network namespace in which it was opened."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_SOCK_DIAG, "sock_diag")

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()

    def tcp(self, family: int, *, states: int = _ALL_STATES) -> Sockets:
        """All TCP sockets of `family` (AF_INET or AF_INET6) but those in SYN_RECV and TIME_WAIT, which no descriptor
        stands for. Sockets of connections that wait to be accepted have inode 0. Dtype: SOCKET."""
        return self._dump(request(family, socket.IPPROTO_TCP, states, extensions=1 << (_INFO - 1)))

    def udp(self, family: int) -> Sockets:
        """All UDP sockets of `family` that are bound; fields that only TCP has are 0. Dtype: SOCKET."""
        return self._dump(request(family, socket.IPPROTO_UDP, 0xFFFFFFFF, extensions=0))

    def destroy(self, local: Address, local_port: int, peer: Address, peer_port: int) -> bool:
        """Abort a TCP connection (SOCK_DESTROY, CONFIG_INET_DIAG_DESTROY): its program sees ECONNABORTED, and the peer
        is sent a reset that it takes only if it is exactly where this side believes it to be.

        False: there is no such connection. Raises KernelError: EOPNOTSUPP where the kernel lacks it.
        """
        row = self.find(local, local_port, peer, peer_port)
        return row is not None and self.abort(row)

    def abort(self, row: Row) -> bool:
        """As `destroy`, of a connection whose row is known."""
        try:
            target = f"a connection of port {row.local_port} to port {row.peer_port}"
            self._netlink.exchange(SOCK_DESTROY, REQUEST | ACK, request_one(row), target)
        except KernelError as error:
            if error.errno in _GONE:
                return False
            raise
        return True

    def find(self, local: Address, local_port: int, peer: Address, peer_port: int) -> Row | None:
        """The socket of a TCP connection; None if there is none.

        Where there is no connection the kernel answers with the socket that listens there, which is not meant.
        """
        family = socket.AF_INET if isinstance(local, IPv4Address) else socket.AF_INET6
        ports = local_port.to_bytes(2, "big"), peer_port.to_bytes(2, "big")
        addresses = local.packed.ljust(16, b"\0"), peer.packed.ljust(16, b"\0")
        identity = (*ports, *addresses, 0, _NO_COOKIE, _NO_COOKIE)
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _ALL_STATES, *identity)
        try:
            answer = self._netlink.exchange(SOCK_DIAG_BY_FAMILY, REQUEST, body, f"the connection to {peer}")[0]
        except KernelError as error:
            if error.errno in _GONE:
                return None
            raise
        message = (HEADER.size + len(answer)).to_bytes(HEADER.size, "little") + answer
        padded = np.frombuffer(message + bytes(-len(message) % 4), dtype=np.uint8).reshape(1, -1)
        row = Row.read(read_alike(padded)[0].tobytes())
        return None if row.state in (LISTEN, TIME_WAIT, SYN_RECV) or row.peer_port != peer_port else row

    def _dump(self, body: bytes) -> Sockets:
        sequence = self._netlink.send(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, body)
        tables: list[Sockets] = [np.zeros(0, dtype=SOCKET)]
        while True:
            data = self._netlink.receive()
            at = 0
            while at < len(data):
                length, kind, found = self._netlink.header(at)
                if is_end(kind) and found == sequence:
                    return np.concatenate(tables) if len(tables) != 2 else tables[1]
                if is_error(kind) and found == sequence:
                    raise KernelError("sock_diag", "the list of sockets", -int(data[at + 16 : at + 20].view("<i4")[0]))
                if found == sequence:
                    table, at = _read_run(data, at)
                    tables.append(table)
                else:  # what is left of an answer that was given up
                    at += (length + 3) & ~3


def request(family: int, protocol: int, states: int, *, extensions: int) -> bytes:
    """The body of a request for all sockets of a family and protocol in one of `states` (a mask)."""
    return _REQUEST.pack(
        family, protocol, extensions, 0, states, bytes(2), bytes(2), bytes(16), bytes(16), 0, _NO_COOKIE, _NO_COOKIE
    )


def _read_run(buffer: NDArray[np.uint8], start: int) -> tuple[Sockets, int]:
    """Read the message at `start` and all that follow it with the same layout; give them and where they end."""
    length = int.from_bytes(buffer[start : start + 4].tobytes(), "little")
    step = (length + 3) & ~3
    count = (len(buffer) - start) // step
    table = read_alike(buffer[start : start + count * step].reshape(count, step))
    return table, start + len(table) * step


def request_one(row: Row) -> bytes:
    """The body of a request for one TCP connection."""
    ports = row.local_port.to_bytes(2, "big"), row.peer_port.to_bytes(2, "big")
    identity = (*ports, row.local, row.peer, row.interface, row.cookie & 0xFFFFFFFF, row.cookie >> 32)
    return _REQUEST.pack(row.family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _ALL_STATES, *identity)


def read_alike(rows: NDArray[np.uint8]) -> Sockets:
    """Read netlink messages, one in each row of bytes: the first, and those after it that have the same layout."""
    count = len(rows)
    length = int.from_bytes(rows[0, :4].tobytes(), "little")
    info, shutdown = _attributes(rows[0, :length].tobytes())
    places = _checked(info, shutdown)
    same = (rows[:, places] == rows[0, places]).all(axis=1)
    run = count if same.all() else int(np.argmin(same))
    columns, absent = _columns(info, shutdown)
    table = rows[:run].take(columns, axis=1)
    if len(absent):
        table[:, absent] = 0
    return table.view(SOCKET).reshape(run)


@functools.cache
def _checked(info: int, shutdown: int) -> NDArray[np.intp]:
    """The bytes in which messages of one layout are the same: length; type; length and kind of each attribute."""
    heads = [at - 4 for at in (info, shutdown) if at]
    return np.array([4, 5, *(at + byte for at in (0, *heads) for byte in range(4))])


@functools.cache
def _columns(info: int, shutdown: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each byte of a `SOCKET` where it stands in a message; and which bytes of it stand nowhere."""
    places = dict(_MESSAGE_FIELDS)
    if info:
        places.update({name: info + at for name, at in _INFO_FIELDS.items()})
    if shutdown:
        places["shutdown"] = shutdown
    columns = np.full(SOCKET.itemsize, -1, np.intp)
    for name, place in places.items():
        size, at = SOCKET[name].itemsize, _OFFSETS[name]
        bytes_of = range(place, place + size)
        columns[at : at + size] = bytes_of[::-1] if name in _NETWORK_ORDER else bytes_of
    absent = np.flatnonzero(columns < 0)
    columns[absent] = 0
    return columns, absent


def _attributes(message: bytes) -> tuple[int, int]:
    """Where in the message the contents of INET_DIAG_INFO and INET_DIAG_SHUTDOWN stand; 0 = not there."""
    info = shutdown = 0
    at = _ATTRIBUTES_AT
    while at + 4 <= len(message):
        size, kind = struct.unpack_from("<HH", message, at)
        if size < 4:
            break
        if kind == _INFO and size - 4 >= _INFO_BYTES_MIN:
            info = at + 4
        elif kind == _SHUTDOWN:
            shutdown = at + 4
        at += (size + 3) & ~3
    return info, shutdown
