"""The options of a socket (socket(7), ip(7), ipv6(7), tcp(7), udp(7)) as a value.

All that a program may have set and can be read back. At a takeover only those are set that differ from a new socket's,
so the usual connection costs two or three calls. What depends on each other has its order here: buffer sizes are set
with the FORCE variants (a restored queue must fit, whatever net.core.wmem_max says) and their locks after them.
"""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgpack

from agent.errors import KernelError, RestoreError

SOL, IP, IPV6, TCP, UDP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP, 17

SO_REUSEADDR, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_REUSEPORT = 2, 6, 7, 8, 15
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_BINDTOIFINDEX, SO_BUF_LOCK = 32, 33, 62, 72
IP_FREEBIND, IP_TRANSPARENT, IPV6_V6ONLY, IPV6_TRANSPARENT = 15, 19, 26, 75

Value = int | bytes
Option = tuple[int, int, Value]
"""Level, name, and an int or the bytes of a structure."""

_STRUCTURES: Final = {(SOL, 13): 8, (SOL, 20): 16, (SOL, 21): 16, (TCP, 13): 16}

# KEEPALIVE, OOBINLINE, PRIORITY, LINGER, REUSEPORT, RCVLOWAT, RCVTIMEO, SNDTIMEO, MARK, BINDTOIFINDEX
_SOL_NAMES: Final = (9, 10, 12, 13, SO_REUSEPORT, 18, 20, 21, 36, SO_BINDTOIFINDEX)
_IP_NAMES: Final = (1, 2, 10, IP_FREEBIND, IP_TRANSPARENT)  # TOS, TTL, MTU_DISCOVER
_IPV6_NAMES: Final = (16, 23, IPV6_V6ONLY, 67, IPV6_TRANSPARENT)  # UNICAST_HOPS, MTU_DISCOVER, TCLASS
# NODELAY, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, LINGER2, DEFER_ACCEPT, CONGESTION, USER_TIMEOUT, FASTOPEN, NOTSENT_LOWAT
_TCP_NAMES: Final = (1, 3, 4, 5, 6, 8, 9, 13, 18, 23, 25)
# Of datagram sockets: TIMESTAMP, TIMESTAMPNS, RXQ_OVFL; PKTINFO, RECVERR, RECVTTL, RECVTOS, MULTICAST_IF, _TTL, _LOOP;
# MULTICAST_IF, _HOPS, _LOOP, RECVERR, RECVPKTINFO, RECVHOPLIMIT, RECVTCLASS; CORK, SEGMENT, GRO
_DATAGRAM_NAMES: Final = (
    *((SOL, name) for name in (SO_BROADCAST, 29, 35, 40)),
    *((IP, name) for name in (8, 11, 12, 13, 33, 34)),
    *((UDP, name) for name in (1, 103, 104)),
)
_DATAGRAM_IPV6_NAMES: Final = tuple((IPV6, name) for name in (17, 18, 19, 25, 49, 51, 66))
_BUFFERS: Final = (SO_SNDBUF, SO_RCVBUF)

_names_of: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
_defaults: dict[tuple[int, int], dict[tuple[int, int], Value]] = {}

_LOCK_BITS: Final = {(SOL, SO_SNDBUF): 1, (SOL, SO_RCVBUF): 2}
"""The bit of SO_BUF_LOCK that says that the program has set this size itself."""
_LATE: Final = frozenset(
    {(SOL, SO_REUSEADDR), (SOL, SO_BUF_LOCK), (IP, IP_TRANSPARENT), (IPV6, IPV6_TRANSPARENT), *_LOCK_BITS}
)
_OPTIONS_MAX: Final = 256
_STRUCTURE_BYTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class OptionPlan:
    """How a new socket gets the options of a record.

    early: what differs from a new socket on this node, to be set before the socket is bound. send_bytes, receive_bytes:
    the buffers' sizes as the kernel counts them. The rest has to be otherwise while the socket is made, and is set
    at the end: reuse_address, transparent, and buffer_locks (SO_BUF_LOCK).
    """

    family: int
    early: tuple[Option, ...]
    reuse_address: int
    transparent: int
    buffer_locks: int
    send_bytes: int
    receive_bytes: int

    def begin(self, one: socket.socket) -> None:
        """Set what can be set ahead, and take the right to use an address that is not here yet."""
        one.setsockopt(*self._transparent_name(), 1)
        set_options(one, self.early)

    def make_room(self, one: socket.socket, send_bytes: int, receive_bytes: int) -> None:
        """Make the buffers as large as they were, and large enough for queues of these sizes.

        The receive buffer also stands for the window that the peer was promised. The kernel doubles what it is given.
        """
        receive = max(self.receive_bytes // 2, receive_bytes)
        if 2 * receive > one.getsockopt(SOL, SO_RCVBUF):
            one.setsockopt(SOL, SO_RCVBUFFORCE, receive)
        send = max(self.send_bytes // 2, send_bytes)
        if send_bytes and 2 * send > one.getsockopt(SOL, SO_SNDBUF):
            one.setsockopt(SOL, SO_SNDBUFFORCE, send)

    def end(self, one: socket.socket) -> None:
        """Set what had to be otherwise until now."""
        put = one.setsockopt
        put(SOL, SO_BUF_LOCK, self.buffer_locks)
        put(SOL, SO_REUSEADDR, self.reuse_address)
        put(*self._transparent_name(), self.transparent)

    def _transparent_name(self) -> tuple[int, int]:
        return (IP, IP_TRANSPARENT) if self.family == socket.AF_INET else (IPV6, IPV6_TRANSPARENT)


def pack_options(options: Iterable[Option]) -> bytes:
    """Options as a record keeps them."""
    packed: bytes = msgpack.packb(list(options))
    return packed


@functools.lru_cache(maxsize=4096)
def unpack_options(data: bytes) -> tuple[Option, ...]:
    """Options from a record. Raises RestoreError."""
    try:
        values = msgpack.unpackb(data, use_list=False)
    except (ValueError, msgpack.exceptions.ExtraData) as error:
        raise RestoreError(f"the options of a socket are no msgpack: {error}") from error
    if not isinstance(values, tuple) or len(values) > _OPTIONS_MAX or not all(map(_is_option, values)):
        raise RestoreError("the options of a socket are no options")
    return values


@functools.lru_cache(maxsize=4096)
def option_plan(data: bytes, family: int, kind: int) -> OptionPlan:
    """How a new socket of this family and kind gets the options of a record. Raises RestoreError."""
    options = unpack_options(data)
    values = {(level, name): value for level, name, value in options if isinstance(value, int)}
    locks = values.get((SOL, SO_BUF_LOCK), 0)
    different = different_from_new(options, family, kind)
    early = [option for option in different if option[:2] not in _LATE]
    early += [option for option in different if locks & _LOCK_BITS.get(option[:2], 0)]
    transparent = (IP, IP_TRANSPARENT) if family == socket.AF_INET else (IPV6, IPV6_TRANSPARENT)
    return OptionPlan(
        family,
        tuple(early),
        values.get((SOL, SO_REUSEADDR), 0),
        values.get(transparent, 0),
        locks,
        values.get((SOL, SO_SNDBUF), 0),
        values.get((SOL, SO_RCVBUF), 0),
    )


def _is_option(value: object) -> bool:
    match value:
        case (int(), int(), bytes(content)):
            return len(content) <= _STRUCTURE_BYTES_MAX
        case (int(), int(), int()):
            return True
        case _:
            return False


def read_options(source: socket.socket, family: int, kind: int) -> tuple[Option, ...]:
    """All options of a socket, in the order in which they can be set. About 15 us."""
    names = _names_of.get((family, kind))
    if names is None:
        names = _names_of[family, kind] = tuple(_answered(source, _candidates(family, kind)))
    option = source.getsockopt
    found: list[Option] = []
    for level, name in names:
        size = _STRUCTURES.get((level, name))
        found.append((level, name, option(level, name) if size is None else option(level, name, size)))
    return tuple(found)


def different_from_new(options: Iterable[Option], family: int, kind: int) -> list[Option]:
    """The options whose value is another than that of a new socket on this node."""
    defaults = _defaults.get((family, kind))
    if defaults is None:
        with socket.socket(family, kind) as fresh:
            defaults = {(level, name): value for level, name, value in read_options(fresh, family, kind)}
        _defaults[family, kind] = defaults
    return [option for option in options if defaults.get(option[:2]) != option[2]]


def set_options(target: socket.socket, options: Iterable[Option]) -> None:
    """Set options. Raises KernelError naming the option."""
    put = target.setsockopt
    for level, name, value in options:
        try:
            if level == SOL and name in _BUFFERS and isinstance(value, int):
                # The kernel doubles what it is given.
                put(SOL, SO_SNDBUFFORCE if name == SO_SNDBUF else SO_RCVBUFFORCE, value // 2)
            else:
                put(level, name, value)
        except OSError as error:
            raise KernelError(f"setsockopt({level}, {name})", "a socket", error.errno or 0) from error


def _candidates(family: int, kind: int) -> list[tuple[int, int]]:
    names = [(SOL, name) for name in (SO_REUSEADDR, *_SOL_NAMES, SO_SNDBUF, SO_RCVBUF, SO_BUF_LOCK)]
    names += [(IP, name) for name in _IP_NAMES]
    if family == socket.AF_INET6:
        names += [(IPV6, name) for name in _IPV6_NAMES]
    if kind == socket.SOCK_STREAM:
        return names + [(TCP, name) for name in _TCP_NAMES]
    return [*names, *_DATAGRAM_NAMES, *(_DATAGRAM_IPV6_NAMES if family == socket.AF_INET6 else ())]


def _answered(source: socket.socket, names: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Those that this kernel knows, and that can be set to what is read from them."""
    for level, name in names:
        try:
            size = _STRUCTURES.get((level, name))
            if size is None:
                source.getsockopt(level, name)
            else:
                source.getsockopt(level, name, size)
        except OSError as error:
            if error.errno in (errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTCONN):
                continue
            raise KernelError(f"getsockopt({level}, {name})", "a socket", error.errno or 0) from error
        yield level, name
