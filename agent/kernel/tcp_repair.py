"""TCP connections as state that can be read and made again: the socket option TCP_REPAIR (linux/tcp.h).

A socket in repair mode can be asked for its sequence numbers and queues, and can be given them; its connect(2) sends
nothing and its close(2) is silent. Reading does not disturb the peer; two marks that it leaves on the socket are wiped
off here: leaving repair mode clears SO_REUSEADDR, and mode 0 would send a window probe, so -1 is used.

All functions take a duplicate of the program's descriptor, in this process. No duplicate may be kept while the program
runs: its own close(2) would send no FIN.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.errors import CaptureError, KernelError
from agent.kernel.libc import NR, attempt_held
from agent.kernel.repair_mode import (
    NO_QUEUE,
    RECEIVE_QUEUE,
    REPAIR_OFF,
    REPAIR_OFF_SILENT,
    REPAIR_ON,
    SEND_QUEUE,
    TCP_REPAIR,
    TCP_REPAIR_QUEUE,
)

TCP_MAXSEG, TCP_INFO = 2, 11
TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS = 21, 22
TCP_TIMESTAMP, TCP_REPAIR_WINDOW = 24, 29

OPTION_TIMESTAMPS, OPTION_SACK, OPTION_SCALE = 1, 2, 4
"""Bits of tcpi_options: what both sides agreed on when they connected."""

_TCPOPT_MSS, _TCPOPT_WINDOW, _TCPOPT_SACK, _TCPOPT_TIMESTAMP = 2, 3, 4, 8
_SIOCINQ, _SIOCOUTQ = 0x541B, 0x5411
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
_PAGE_BYTES: Final = 4096
_FILL_BYTES: Final = 16 * _PAGE_BYTES  # tcp_send_rcvq makes one buffer of at most 17 pages of each call
_ATTEMPTS: Final = 20
_MAXSEG_MAX: Final = 32767  # MAX_TCP_WINDOW; on loopback segments are larger
_WINDOW: Final = struct.Struct("<5I")
_COUNTERS: Final = struct.Struct("<QQ")
_COUNTERS_AT: Final = 120  # in struct tcp_info: bytes_acked, bytes_received
_CLOCK_ROUNDING_MS: Final = 2

CLOCK_BIT: Final = 1
"""Of a timestamp's clock: which of its clocks the kernel uses (tcp_usec_ts)."""


_MAPPED: Final = bytes(10) + b"\xff\xff"

_word = np.zeros(1, dtype=np.int32)
_word_address = _word.ctypes.data
_address = np.zeros(128, dtype=np.uint8)  # struct sockaddr_storage
_address_view, _address_place = _address.data, _address.ctypes.data
_queue_buffer = np.zeros(64 << 10, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Window:
    """What each side may send (struct tcp_repair_window); sequence numbers and bytes."""

    send_update: int
    send: int
    send_max: int
    receive: int
    receive_update: int

    def encode(self) -> bytes:
        """As the kernel takes it."""
        return _WINDOW.pack(self.send_update, self.send, self.send_max, self.receive, self.receive_update)


@dataclass(frozen=True, slots=True)
class Connection:
    """One side of an established TCP connection.

    state: its state, of `agent.kernel.sock_diag`. send_next: sequence number of the next byte that the program will
    write; `send_queue` holds the bytes before it that the peer has not acknowledged, sent or not. receive_next:
    sequence number of the next byte that the peer will send; `receive_queue` holds the bytes before it that the program
    has not read (the peer's FIN is behind them and counts as one). mss: the peer's. options: OPTION_* bits. send_scale,
    receive_scale: window scales. timestamp: the clock of the timestamp option in ms (RFC 7323), its lowest bit is the
    kernel's own (tcp_usec_ts).
    """

    state: int
    send_next: int
    send_queue: bytes
    receive_next: int
    receive_queue: bytes
    mss: int
    options: int
    send_scale: int
    receive_scale: int
    timestamp: int
    window: Window

    @property
    def send_unacknowledged(self) -> int:
        """Sequence number of the first byte that the peer has not acknowledged (SND.UNA)."""
        return (self.send_next - len(self.send_queue)) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Anchor:
    """A connection with nothing in its queue to the peer, together with the counters of its socket (TCP_INFO,
    bytes_acked and bytes_received) at that moment: later counters tell later sequence numbers, without another look."""

    connection: Connection
    acknowledged: int
    received: int
    clock_ms: float

    def at(
        self, acknowledged: int, received: int, send_window: int, receive_window: int, clock_ms: float
    ) -> Connection:
        """The connection when its counters and windows are these and both its queues are empty; clock_ms:
        CLOCK_MONOTONIC.

        The peer may send as far as it was promised, or a little further, never less far.
        """
        before = self.connection
        send_next = (before.send_next + acknowledged - self.acknowledged) & 0xFFFFFFFF
        receive_next = (before.receive_next + received - self.received) & 0xFFFFFFFF
        clock = before.timestamp + int(clock_ms - self.clock_ms) + _CLOCK_ROUNDING_MS
        clock = clock & ~CLOCK_BIT | before.timestamp & CLOCK_BIT
        send_max = max(before.window.send_max, send_window)
        return Connection(
            before.state,
            send_next,
            b"",
            receive_next,
            b"",
            before.mss,
            before.options,
            before.send_scale,
            before.receive_scale,
            clock & 0xFFFFFFFF,
            Window(receive_next, send_window, send_max, receive_window, receive_next),
        )


def signed(value: int) -> int:
    """A sequence number as the C int that setsockopt(2) takes."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def adopt(descriptor: int, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A Python socket over a descriptor, without the four system calls by which Python would find out what it is."""
    return socket.socket(family, kind, 0, fileno=descriptor)


def discard(connection: socket.socket) -> None:
    """Close a duplicate with the interpreter lock held."""
    attempt_held(NR.CLOSE, connection.detach())


def freeze(connection: socket.socket) -> None:
    """Put the socket into repair mode for good: whoever closes it last, nothing is sent."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_ON)
    except OSError as error:
        raise KernelError("TCP_REPAIR on", "a connection", error.errno or 0) from error


def read_connection(connection: socket.socket, *, keep_repair: bool = False) -> tuple[Connection, Anchor | None]:
    """Read an established connection exactly, while the program that owns it stands still. The anchor is missing when
    the peer has not acknowledged everything.

    keep_repair: leave the socket in repair mode (of a dying program: its end is silent then).
    Raises KernelError; CaptureError if the peer sends so fast that no consistent view could be had.
    """
    tcp, option = socket.IPPROTO_TCP, connection.getsockopt
    reuse_address = option(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    try:
        connection.setsockopt(tcp, TCP_REPAIR, REPAIR_ON)
        try:
            # In this order: with an empty send queue the counters, read after it, can't have moved.
            send_next, send_queue = _read_send_queue(connection)
            information, receive_next, receive_queue = _read_receive_queue(connection)
            # Were the agent killed now: what the program writes would go where its peer's bytes are.
            connection.setsockopt(tcp, TCP_REPAIR_QUEUE, NO_QUEUE if keep_repair else SEND_QUEUE)
            clock_ms = time.monotonic() * 1000
            state = Connection(
                state=information[0],
                send_next=send_next,
                send_queue=send_queue,
                receive_next=receive_next,
                receive_queue=receive_queue,
                mss=option(tcp, TCP_MAXSEG),
                options=information[5] & (OPTION_TIMESTAMPS | OPTION_SACK | OPTION_SCALE),
                send_scale=information[6] & 15,
                receive_scale=information[6] >> 4,
                timestamp=option(tcp, TCP_TIMESTAMP) & 0xFFFFFFFF,
                window=Window(*_WINDOW.unpack(option(tcp, TCP_REPAIR_WINDOW, _WINDOW.size))),
            )
            acknowledged, received = _COUNTERS.unpack_from(information, _COUNTERS_AT)
            return state, None if send_queue else Anchor(state, acknowledged, received, clock_ms)
        finally:
            if not keep_repair:
                connection.setsockopt(tcp, TCP_REPAIR, REPAIR_OFF_SILENT)
                if reuse_address:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
    except OSError as error:
        raise KernelError("TCP_REPAIR", "an established connection", error.errno or 0) from error


def state_of(connection: socket.socket) -> int:
    """The state of a TCP socket, of `agent.kernel.sock_diag`."""
    return connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1)[0]


def _read_receive_queue(connection: socket.socket) -> tuple[bytes, int, bytes]:
    """TCP_INFO up to its counters of bytes, sequence number, content. The peer may send at any time: what was read is
    right if the sequence number is the same before and after; its FIN counts in it, too."""
    tcp = socket.IPPROTO_TCP
    number = connection.fileno()
    connection.setsockopt(tcp, TCP_REPAIR_QUEUE, RECEIVE_QUEUE)
    receive_next = connection.getsockopt(tcp, TCP_QUEUE_SEQ)
    for _ in range(_ATTEMPTS):
        size = _ioctl(number, _SIOCINQ)
        queue = _peek(number, size) if size else b""
        information = connection.getsockopt(tcp, TCP_INFO, _COUNTERS_AT + _COUNTERS.size)
        before, receive_next = receive_next, connection.getsockopt(tcp, TCP_QUEUE_SEQ)
        if before == receive_next:
            return information, receive_next & 0xFFFFFFFF, queue
    raise CaptureError(f"a TCP connection received data during each of {_ATTEMPTS} attempts to read its queue")


def _read_send_queue(connection: socket.socket) -> tuple[int, bytes]:
    """Its end stands still with the program; the peer's acknowledgements shorten it from the front, and one look at
    the queue is atomic."""
    tcp = socket.IPPROTO_TCP
    number = connection.fileno()
    connection.setsockopt(tcp, TCP_REPAIR_QUEUE, SEND_QUEUE)
    send_next = connection.getsockopt(tcp, TCP_QUEUE_SEQ) & 0xFFFFFFFF
    size = _ioctl(number, _SIOCOUTQ)
    return send_next, _peek(number, size) if size else b""


def _peek(number: int, size: int) -> bytes:
    """The content of the selected queue, `size` bytes or a few less or more."""
    global _queue_buffer
    if size >= len(_queue_buffer):
        _queue_buffer = np.zeros(2 * size, dtype=np.uint8)
    got = attempt_held(NR.RECVFROM, number, _queue_buffer.ctypes.data, len(_queue_buffer), _PEEK, 0, 0)
    if got == -11:  # EAGAIN: emptied meanwhile, or nothing but the peer's FIN
        return b""
    if got < 0:
        raise OSError(-got, "peek")
    return _queue_buffer[:got].tobytes()


def _ioctl(number: int, request: int) -> int:
    result = attempt_held(NR.IOCTL, number, request, _word_address)
    if result < 0:
        raise OSError(-result, "ioctl")
    return _word.item()


# -------------------------------------------------------------------- making a connection


def begin(connection: socket.socket, state: Connection) -> None:
    """First step, on a fresh socket: repair mode and the sequence numbers at which the queues begin. Then bind(2) and
    connect(2), then `complete`."""
    tcp, put = socket.IPPROTO_TCP, connection.setsockopt
    put(tcp, TCP_REPAIR, REPAIR_ON)
    # The connect derives the segment size from it; without, segments have 524 bytes.
    put(tcp, TCP_MAXSEG, min(state.mss, _MAXSEG_MAX))
    put(tcp, TCP_REPAIR_QUEUE, SEND_QUEUE)
    put(tcp, TCP_QUEUE_SEQ, signed(state.send_next - len(state.send_queue)))
    put(tcp, TCP_REPAIR_QUEUE, RECEIVE_QUEUE)
    put(tcp, TCP_QUEUE_SEQ, signed(state.receive_next - len(state.receive_queue)))


def bind(one: socket.socket, address: bytes) -> None:
    """bind(2) to an address as the kernel takes it."""
    _call_with_address(one, NR.BIND, "bind", address)


def connect(one: socket.socket, address: bytes) -> None:
    """connect(2) to an address as the kernel takes it; in repair mode nothing is sent.

    Raises KernelError: EADDRNOTAVAIL (the connection exists on this node already), ENETUNREACH.
    """
    _call_with_address(one, NR.CONNECT, "connect", address)


def _call_with_address(one: socket.socket, number: int, name: str, address: bytes) -> None:
    _address_view[: len(address)] = address
    result = attempt_held(number, one.fileno(), _address_place, len(address))
    if result < 0:
        raise KernelError(name, f"a socket to {readable_address(address)}", -result)


def endpoint(address: bytes) -> tuple[str, int]:
    """IP address and port of an address as the kernel takes it; of an IPv4 address in an IPv6 socket, the IPv4 one.

    Raises ValueError for another family.
    """
    family, port = int.from_bytes(address[:2], "little"), int.from_bytes(address[2:4], "big")
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, address[4:8]), port
    if family == socket.AF_INET6:
        packed = address[8:24]
        if packed.startswith(_MAPPED):
            return socket.inet_ntop(socket.AF_INET, packed[12:]), port
        return socket.inet_ntop(socket.AF_INET6, packed), port
    raise ValueError(f"address of family {family}")


def readable_address(address: bytes) -> str:
    """An address as the kernel takes it, as a person reads it."""
    try:
        return "{}, port {}".format(*endpoint(address))
    except ValueError:
        return "no address"


def disconnect(connection: socket.socket, *, forget: bool) -> None:
    """Make a fresh socket of one in repair mode, bound as before; nothing is sent. It can be given a state again.

    forget: the error is taken off, which the program would see otherwise (ECONNABORTED).
    """
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_ON)
    _call_with_address(connection, NR.CONNECT, "disconnect", bytes(16))  # AF_UNSPEC
    if forget:
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def complete(connection: socket.socket, state: Connection) -> None:
    """Last step, after `connect`: agreed options, queues, windows. The socket stays in repair mode.

    Everything in the send queue counts as sent, so whatever of it the peer acknowledges is valid.
    """
    tcp, put = socket.IPPROTO_TCP, connection.setsockopt
    put(tcp, TCP_REPAIR_OPTIONS, _agreed(state))
    if state.options & OPTION_TIMESTAMPS:
        put(tcp, TCP_TIMESTAMP, signed(state.timestamp))
    if state.receive_queue:
        put(tcp, TCP_REPAIR_QUEUE, RECEIVE_QUEUE)
        fill(connection, state.receive_queue)
    if state.send_queue:
        put(tcp, TCP_REPAIR_QUEUE, SEND_QUEUE)
        fill(connection, state.send_queue)
    put(tcp, TCP_REPAIR_WINDOW, state.window.encode())


def leave(connection: socket.socket, *, probe: bool) -> None:
    """End repair mode; `probe`: send one segment that makes the peer answer with where it stands."""
    put = connection.setsockopt
    put(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, NO_QUEUE)
    put(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF if probe else REPAIR_OFF_SILENT)


def _agreed(state: Connection) -> bytes:
    parts = [struct.pack("<II", _TCPOPT_MSS, state.mss)]
    if state.options & OPTION_SCALE:
        parts.append(struct.pack("<II", _TCPOPT_WINDOW, state.send_scale | state.receive_scale << 16))
    if state.options & OPTION_SACK:
        parts.append(struct.pack("<II", _TCPOPT_SACK, 0))
    if state.options & OPTION_TIMESTAMPS:
        parts.append(struct.pack("<II", _TCPOPT_TIMESTAMP, 0))
    return b"".join(parts)


def fill(connection: socket.socket, data: bytes) -> None:
    """Write all of `data`; into the selected queue, or, outside of repair mode, to the peer. The buffer must have room
    for it (`agent.context.socket_options`). Raises OSError EAGAIN."""
    view = memoryview(data)
    while view:
        view = view[connection.send(view[:_FILL_BYTES], socket.MSG_DONTWAIT) :]
