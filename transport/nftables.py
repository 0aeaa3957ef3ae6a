"""Messages to nftables (nfnetlink), and what its answers mean. Pure: sockets are opened where they are used.

Source: kernel uapi linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from transport.errors import KagemushaError
from transport.netlink_format import ACK, CREATE, DUMP, ERROR, NESTED, attribute, codes, errno_of, message, messages

NETLINK_NETFILTER: Final = 12
PREFIX: Final = "kagemusha"
"""What the names of all of our tables begin with."""

Exchange = Callable[[bytes], list[bytes]]
"""Sends one datagram to nfnetlink and gives all datagrams that answer it, which are there when it was sent."""
Address = IPv4Address | IPv6Address

_EXCL, _APPEND = 0x200, 0x800
_NEW_TABLE, GET_TABLE, DELETE_TABLE, _NEW_CHAIN, _NEW_RULE, GET_RULE = 0, 1, 2, 3, 6, 7
_NEW_SET, NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT = 9, 12, 13, 14
DESTROY_TABLE, DESTROY_ELEMENT = 26, 30
"""As deleting, but that there is none is no error (since Linux 6.3)."""
_REGISTER: Final = 1
_VERDICT: Final = 0
_BATCH_BEGIN, _BATCH_END = 16, 17
_NFTABLES: Final = 10
_INET, _UNSPEC = 1, 0
_PREROUTING, _LOCAL_OUT = 0, 3
_FIRST: Final = -450
"""Before defragmentation (-400), and so before everything that could answer, translate or remember a packet."""
_META_NFPROTO: Final = 15
_NETWORK_HEADER: Final = 1
# Family as NFPROTO_*, then where source and destination are in the header.
_PLACES: Final = {4: (2, 12, 16), 6: (10, 8, 24)}
_SET_KINDS: Final = {4: 7, 6: 8}
"""How nft(8) shows what is in a set: ipv4_addr, ipv6_addr."""
_WITH_TIMEOUT: Final = 0x10
_UNLESS: Final = 1


class BarrierError(KagemushaError):
    """The kernel does not put up or take down what drops the traffic of an address."""


class Nftables:
    """nftables of one network namespace. exchange: of a socket that was opened in it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def change(self, changes: Sequence[bytes]) -> int:
        """Do all of it or nothing; gives 0 or the first errno. Raises BarrierError: no answer."""
        batch = struct.pack(">BBH", _UNSPEC, 0, _NFTABLES)
        whole = [message(_BATCH_BEGIN, 0, batch), *changes, message(_BATCH_END, 0, batch)]
        found = list(codes(self._exchange(b"".join(whole))))
        if not found:
            raise BarrierError("nftables: the kernel does not answer")
        return next((code for code in found if code), 0)

    def dump(self, kind: int, content: bytes) -> list[bytes]:
        """The bodies of all objects of a kind, without their nfgenmsg. Raises BarrierError."""
        bodies: list[bytes] = []
        for answer in self._exchange(request(kind, DUMP, content, ack=False)):
            for found, body in messages(answer):
                if found == ERROR:
                    code = errno_of(body)
                    if code not in (0, errno.ENOENT):
                        raise BarrierError(f"nftables can't be read: {os.strerror(code)}")
                elif found >> 8 == _NFTABLES:
                    bodies.append(body[4:])
        return bodies


def table_of(instance: str, *more: str) -> str:
    """Its name: `redis@a` has `kagemusha.redis.a`, which nft(8) can read, too; more: what it is of, after a dot."""
    return ".".join((PREFIX, instance.replace("@", "."), *more))


def silencing(table: str, address: Address, set_: bytes, steps: Sequence[bytes], mark: bytes) -> list[bytes]:
    """The changes that make a table with its set, and for each direction a rule: a packet of the address' kind that
    comes through `steps` is dropped. A table of this name that is not as it should be goes with the same stroke.

    mark: what its rules are known by.
    """
    changes = [
        request(DESTROY_TABLE, 0, text(1, table)),
        request(_NEW_TABLE, CREATE | _EXCL, text(1, table)),
        request(_NEW_SET, CREATE, set_),
    ]
    for name, hook, offset in _hooks(address):
        whole = (*_load(address, offset), *steps, _drop())
        changes.append(request(_NEW_CHAIN, CREATE, _chain(table, name, hook)))
        changes.append(request(_NEW_RULE, CREATE | _APPEND, _rule(table, name, whole, mark)))
    return changes


def request(kind: int, flags: int, content: bytes, *, ack: bool = True) -> bytes:
    """One message of family inet."""
    body = struct.pack(">BBH", _INET, 0, 0) + content
    return message(_NFTABLES << 8 | kind, flags | (ACK if ack else 0), body)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a name."""
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    """An attribute that is a number."""
    return attribute(kind, struct.pack(">i", value))


def _nest(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(NESTED | kind, b"".join(parts))


def _expression(name: str, *parts: bytes) -> bytes:
    """One step of a rule."""
    return _nest(1, text(1, name), _nest(2, *parts))


def name_of(parts: dict[int, bytes], kind: int) -> str:
    """A name among the attributes of an object."""
    return parts.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _hooks(address: Address) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    """The two chains that see all of an address' traffic: name, hook, and where in the header the address stands."""
    _, source, destination = _PLACES[address.version]
    return ("output", _LOCAL_OUT, source), ("input", _PREROUTING, destination)


def _chain(table: str, name: str, hook: int) -> bytes:
    """NFTA_CHAIN_*: a base chain of type filter."""
    return b"".join((text(1, table), text(3, name), _nest(4, _number(1, hook), _number(2, _FIRST)), text(7, "filter")))


def set_of(table: str, name: str, set_id: int, address: Address, *, with_timeout: bool = False) -> bytes:
    """NFTA_SET_*: of addresses of this kind. with_timeout: its elements may end by themselves."""
    kind = _SET_KINDS[address.version]
    flags = _WITH_TIMEOUT if with_timeout else 0
    numbers = (_number(3, flags), _number(4, kind), _number(5, len(address.packed)), _number(10, set_id))
    return b"".join((text(1, table), text(2, name), *numbers))


def element(table: str, name: str, address: Address, timeout_ms: int = 0) -> bytes:
    """NFTA_SET_ELEM_LIST_*: this address alone. timeout_ms: how long it is in the set; 0: until it is taken out."""
    timeout = [attribute(4, struct.pack(">Q", timeout_ms))] if timeout_ms else []
    return text(1, table) + text(2, name) + _nest(3, _nest(1, _nest(1, attribute(1, address.packed)), *timeout))


def _load(address: Address, offset: int) -> tuple[bytes, bytes, bytes]:
    """Steps of a rule: only packets of the address' family; what stands at `offset` of their header is looked at."""
    family, _, _ = _PLACES[address.version]
    return (
        _expression("meta", _number(1, _REGISTER), _number(2, _META_NFPROTO)),
        is_equal(bytes([family])),
        _expression(
            "payload",
            _number(1, _REGISTER),
            _number(2, _NETWORK_HEADER),
            _number(3, offset),
            _number(4, len(address.packed)),
        ),
    )


def is_equal(value: bytes) -> bytes:
    """A step: go on only if what is looked at is this."""
    return _expression("cmp", _number(1, _REGISTER), _number(2, 0), _nest(3, attribute(1, value)))


def is_in(name: str, set_id: int, *, inverted: bool = False) -> bytes:
    """A step: go on only if what is looked at is in the set, or (inverted) is not."""
    flags = [_number(5, _UNLESS)] if inverted else []
    return _expression("lookup", text(1, name), _number(2, _REGISTER), _number(4, set_id), *flags)


def _drop() -> bytes:
    """A step: the packet is dropped."""
    return _expression("immediate", _number(1, _VERDICT), _nest(2, _nest(2, _number(1, 0))))


def _rule(table: str, chain_name: str, steps: Sequence[bytes], mark: bytes) -> bytes:
    """NFTA_RULE_*. mark: what it is known by; it is of no meaning to the kernel."""
    return b"".join((text(1, table), text(2, chain_name), _nest(4, *steps), attribute(7, mark)))
