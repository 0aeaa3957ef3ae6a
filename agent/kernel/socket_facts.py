"""What a socket says of itself, quickly: for connections that are met at a stop.

Python's own socket object costs more than the five system calls, and gives its lock away at each of them.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, NamedTuple

import numpy as np

from agent.errors import KernelError
from agent.kernel.libc import NR, attempt_held
from agent.kernel.sock_diag import CLOSE, LISTEN
from agent.kernel.tcp_repair import TCP_INFO

_SO_COOKIE: Final = 57
_BACKLOG_AT: Final = 28  # in struct tcp_info, tcpi_sacked: of a listening socket, how many connections may wait
_INFO_BYTES: Final = _BACKLOG_AT + 4
_ADDRESS_BYTES: Final = 128  # struct sockaddr_storage
_ENDPOINT_4: Final = struct.Struct(">2xH4s")
_ENDPOINT_6: Final = struct.Struct(">2xH4x16s")
_SCOPE_AT: Final = 24

# One thread at a time uses these; the interpreter lock, held over every call, guards the rest.
_buffer = np.zeros(_ADDRESS_BYTES + 8, np.uint8)
_at = int(_buffer.ctypes.data)
_length_at = _at + _ADDRESS_BYTES
_view = _buffer.data
_length = _view[_ADDRESS_BYTES : _ADDRESS_BYTES + 4].cast("I")


class SocketFacts(NamedTuple):
    """state: of `agent.kernel.sock_diag`. backlog: of a listening socket. cookie: the kernel's own name for it.
    Addresses: 16 bytes, IPv4 in the first four. interface: the scope of a link-local address."""

    state: int
    backlog: int
    cookie: int
    local: bytes
    local_port: int
    peer: bytes
    peer_port: int
    interface: int


def tcp_facts(descriptor: int, family: int) -> SocketFacts:
    """Of the TCP socket behind a descriptor of this process. Raises KernelError."""
    _option(descriptor, socket.IPPROTO_TCP, TCP_INFO, _INFO_BYTES)
    state = _view[0]
    backlog = int.from_bytes(_view[_BACKLOG_AT:_INFO_BYTES], "little") if state == LISTEN else 0
    _option(descriptor, socket.SOL_SOCKET, _SO_COOKIE, 8)
    cookie = int.from_bytes(_view[:8], "little")
    local, local_port, interface = _endpoint(descriptor, family, NR.GETSOCKNAME) or (bytes(16), 0, 0)
    peer, peer_port = bytes(16), 0
    if state not in (CLOSE, LISTEN):
        found = _endpoint(descriptor, family, NR.GETPEERNAME)
        if found is None:  # closed by its peer this moment
            state = CLOSE
        else:
            peer, peer_port, interface = found
    return SocketFacts(state, backlog, cookie, local, local_port, peer, peer_port, interface)


def _option(descriptor: int, level: int, name: int, size: int) -> None:
    _length[0] = size
    result = attempt_held(NR.GETSOCKOPT, descriptor, level, name, _at, _length_at)
    if result < 0:
        raise KernelError("getsockopt", "a TCP socket", -result)


def _endpoint(descriptor: int, family: int, number: int) -> tuple[bytes, int, int] | None:
    """Address, port and interface; None: it has none (any more)."""
    _length[0] = _ADDRESS_BYTES
    result = attempt_held(number, descriptor, _at, _length_at)
    if result == -errno.ENOTCONN:
        return None
    if result < 0:
        raise KernelError(NR.name(number), "a TCP socket", -result)
    if family == socket.AF_INET:
        port, address = _ENDPOINT_4.unpack_from(_view)
        return address.ljust(16, b"\0"), port, 0
    port, address = _ENDPOINT_6.unpack_from(_view)
    return address, port, int.from_bytes(_view[_SCOPE_AT : _SCOPE_AT + 4], "little")
