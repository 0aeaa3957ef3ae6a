"""The options of a socket (socket(7), ip(7), ipv6(7), tcp(7), udp(7)) as a value.

All that a program may have set and can be read back. At a takeover only those are set that differ from a new socket's,
so the usual connection costs two or three calls. What depends on each other has its order here: buffer sizes are set
with the FORCE variants (a restored queue must fit, whatever net.core.wmem_max says) and their locks after them.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Final

from agent.errors import KernelError

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

BEFORE_BIND: Final = frozenset(
    {(SOL, SO_REUSEPORT), (SOL, SO_BINDTOIFINDEX), (SOL, 36), (IP, IP_FREEBIND), (IPV6, IPV6_V6ONLY), (IPV6, 78)}
)
"""Options that decide whether, and to what, a socket can be bound."""


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


def value_of(options: Iterable[Option], level: int, name: int, default: int = 0) -> int:
    """The value of one option that is an int."""
    for found_level, found_name, value in options:
        if (found_level, found_name) == (level, name) and isinstance(value, int):
            return value
    return default


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
