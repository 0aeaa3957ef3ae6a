"""The barrier: not a packet of a program's address enters or leaves this node, whoever would send it. Pure.

A program that is frozen still has a kernel, which acknowledges what its clients send and sends again what they have not
acknowledged. So each instance has a table of nftables of its own, `inet kagemusha.<program>.<node>`, and a fence begins
with the address being put into its set `silent`: what is from or to it is dropped. It stays there, whatever becomes of
who put it there; the next who claims the address here takes it out again, under a lease.

Agents and the watchdog both need it, and open their own netlink sockets: here are only the messages (nfnetlink, kernel
uapi linux/netfilter/nf_tables.h) and what their answers mean.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from transport.errors import KagemushaError
from transport.netlink_format import (
    ACK,
    CREATE,
    DUMP,
    ERROR,
    NESTED,
    attribute,
    attributes,
    errno_of,
    message,
    messages,
)

NETLINK_NETFILTER: Final = 12
PREFIX: Final = "kagemusha"

Exchange = Callable[[bytes], list[bytes]]
"""Sends one datagram to nfnetlink and gives all datagrams that answer it, which are there when it was sent."""
Address = IPv4Address | IPv6Address

_EXCL, _APPEND = 0x200, 0x800
_BATCH_BEGIN, _BATCH_END = 16, 17
_NFTABLES: Final = 10
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _GETRULE = 0, 1, 2, 3, 6, 7
_NEWSET, _NEWSETELEM, _GETSETELEM, _DELSETELEM = 9, 12, 13, 14
_INET, _UNSPEC = 1, 0
_PREROUTING, _LOCAL_OUT = 0, 3
_FIRST: Final = -450
"""Before defragmentation (-400), and so before everything that could answer, translate or remember a packet."""
_REGISTER, _VERDICT = 1, 0
_META_NFPROTO: Final = 15
_NETWORK_HEADER: Final = 1
# Family as NFPROTO_*, then where source and destination are in the header.
_PLACES: Final = {4: (2, 12, 16), 6: (10, 8, 24)}
_SET, _SET_ID = "silent", 1
_SET_KINDS: Final = {4: 7, 6: 8}
"""How nft(8) shows what is in the set: ipv4_addr, ipv6_addr."""


class BarrierError(KagemushaError):
    """The kernel does not put up or take down a barrier."""


class Barriers:
    """All barriers of one network namespace. exchange: of a socket that was opened in it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def stage(self, instance: str, address: Address) -> None:
        """Make ready for `put`, which then takes a twentieth of the time. Nothing is dropped by it. Idempotent.

        Raises BarrierError.
        """
        if not self._is_staged(instance, address):
            self._make(instance, address)

    def put(self, instance: str, address: Address) -> None:
        """Let nothing of `address` pass from here on; returns when the kernel says that it is so.

        Raises BarrierError.
        """
        element = _message(_NEWSETELEM, CREATE, _element(instance, address))
        if self._change([element]) == 0 and self.stands(instance, address):
            return
        # Not staged, or not any more: somebody has flushed all tables, say.
        self._make(instance, address, element)
        if not self.stands(instance, address):
            raise BarrierError(f"the traffic of {address} is not dropped, though the kernel said so")

    def lift(self, instance: str, address: Address) -> bool:
        """Let everything pass again; False when nothing was dropped. Raises BarrierError."""
        if not self._is_silent(instance, address):
            # The kernel takes back a change that fails only after an RCU grace period: 15 ms of a takeover.
            return False
        code = self._change([_message(_DELSETELEM, 0, _element(instance, address))])
        if code not in (0, errno.ENOENT):
            raise BarrierError(f"can't let traffic of {address} pass again: {os.strerror(code)}")
        return code == 0

    def remove(self, instance: str) -> None:
        """Take away what was made for this instance, whatever it drops. Raises BarrierError."""
        code = self._change([_message(_DELTABLE, 0, _text(1, _table(instance)))])
        if code not in (0, errno.ENOENT):
            raise BarrierError(f"can't remove table {_table(instance)}: {os.strerror(code)}")

    def stands(self, instance: str, address: Address) -> bool:
        """Whether the kernel drops what is of this address. Raises BarrierError."""
        return self._is_silent(instance, address) and self._is_staged(instance, address)

    def _is_silent(self, instance: str, address: Address) -> bool:
        """Whether the address is in the set, whatever that is good for."""
        of_the_set = _text(1, _table(instance)) + _text(2, _SET)
        for body in self._dump(_GETSETELEM, of_the_set):
            elements = dict(attributes(body)).get(3, b"")
            for _, element in attributes(elements):
                key = dict(attributes(dict(attributes(element)).get(1, b"")))
                if key.get(1) == address.packed:
                    return True
        return False

    def instances(self) -> frozenset[str]:
        """For which instances there is something here. Raises BarrierError."""
        names = (_name(dict(attributes(body)), 1).split(".") for body in self._dump(_GETTABLE, b""))
        return frozenset(f"{name[1]}@{name[2]}" for name in names if len(name) == 3 and name[0] == PREFIX)

    def _is_staged(self, instance: str, address: Address) -> bool:
        """Whether both rules are there, for addresses of this kind."""
        found = set()
        for body in self._dump(_GETRULE, _text(1, _table(instance))):
            parts = dict(attributes(body))
            if _name(parts, 1) == _table(instance):
                found.add((_name(parts, 2), parts.get(7, b"")))
        mark = _mark(address)
        return {("output", mark), ("input", mark)} <= found

    def _make(self, instance: str, address: Address, *more: bytes) -> None:
        table = _table(instance)
        name = _text(1, table)
        changes = [
            # A table of this name that is not as it should be goes with the same stroke.
            _message(_NEWTABLE, CREATE, name),
            _message(_DELTABLE, 0, name),
            _message(_NEWTABLE, CREATE | _EXCL, name),
            _message(_NEWSET, CREATE, _set(table, address)),
        ]
        _, source, destination = _PLACES[address.version]
        for chain, hook, offset in (("output", _LOCAL_OUT, source), ("input", _PREROUTING, destination)):
            changes.append(_message(_NEWCHAIN, CREATE, _chain(table, chain, hook)))
            changes.append(_message(_NEWRULE, CREATE | _APPEND, _rule(table, chain, address, offset)))
        code = self._change([*changes, *more])
        if code:
            raise BarrierError(f"can't make a table to drop {address}: {os.strerror(code)}", hint="it takes nftables")

    def _change(self, changes: list[bytes]) -> int:
        """Do all of it or nothing; gives 0 or the first errno."""
        batch = struct.pack(">BBH", _UNSPEC, 0, _NFTABLES)
        whole = [message(_BATCH_BEGIN, 0, batch), *changes, message(_BATCH_END, 0, batch)]
        codes = [code for answer in self._exchange(b"".join(whole)) for code in _codes(answer)]
        if not codes:
            raise BarrierError("nftables: the kernel does not answer")
        return next((code for code in codes if code), 0)

    def _dump(self, kind: int, content: bytes) -> list[bytes]:
        """The bodies of all objects of a kind, without their nfgenmsg. Raises BarrierError."""
        bodies: list[bytes] = []
        request = _message(kind, DUMP, content, ack=False)
        for answer in self._exchange(request):
            for found, body in messages(answer):
                if found == ERROR:
                    code = errno_of(body)
                    if code not in (0, errno.ENOENT):
                        raise BarrierError(f"nftables can't be read: {os.strerror(code)}")
                elif found >> 8 == _NFTABLES:
                    bodies.append(body[4:])
        return bodies


def _table(instance: str) -> str:
    """The table's name: `redis@a` has `kagemusha.redis.a`, which nft(8) can read, too."""
    return f"{PREFIX}.{instance.replace('@', '.')}"


def _message(kind: int, flags: int, content: bytes, *, ack: bool = True) -> bytes:
    body = struct.pack(">BBH", _INET, 0, 0) + content
    return message(_NFTABLES << 8 | kind, flags | (ACK if ack else 0), body)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">i", value))


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(NESTED | kind, b"".join(parts))


def _chain(table: str, name: str, hook: int) -> bytes:
    """NFTA_CHAIN_*: a base chain of type filter."""
    return b"".join(
        (_text(1, table), _text(3, name), _nest(4, _number(1, hook), _number(2, _FIRST)), _text(7, "filter"))
    )


def _set(table: str, address: Address) -> bytes:
    """NFTA_SET_*: of addresses of this kind."""
    kind = _SET_KINDS[address.version]
    numbers = (_number(3, 0), _number(4, kind), _number(5, len(address.packed)), _number(10, _SET_ID))
    return b"".join((_text(1, table), _text(2, _SET), *numbers))


def _element(instance: str, address: Address) -> bytes:
    """NFTA_SET_ELEM_LIST_*: this address alone."""
    element = _nest(1, _nest(1, attribute(1, address.packed)))
    return _text(1, _table(instance)) + _text(2, _SET) + _nest(3, element)


def _mark(address: Address) -> bytes:
    """What a rule for such addresses is known by; it is of no meaning to the kernel."""
    return b"kagemusha-%d" % address.version


def _rule(table: str, chain: str, address: Address, offset: int) -> bytes:
    """NFTA_RULE_*: drop what has an address of the set at `offset` of its network header."""
    family, _, _ = _PLACES[address.version]
    expressions = (
        _expression("meta", _number(1, _REGISTER), _number(2, _META_NFPROTO)),
        _expression("cmp", _number(1, _REGISTER), _number(2, 0), _nest(3, attribute(1, bytes([family])))),
        _expression(
            "payload",
            _number(1, _REGISTER),
            _number(2, _NETWORK_HEADER),
            _number(3, offset),
            _number(4, len(address.packed)),
        ),
        _expression("lookup", _text(1, _SET), _number(2, _REGISTER), _number(4, _SET_ID)),
        _expression("immediate", _number(1, _VERDICT), _nest(2, _nest(2, _number(1, 0)))),
    )
    return b"".join((_text(1, table), _text(2, chain), _nest(4, *expressions), attribute(7, _mark(address))))


def _expression(name: str, *parts: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *parts))


def _name(parts: dict[int, bytes], kind: int) -> str:
    return parts.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _codes(datagram: bytes) -> Iterator[int]:
    for kind, body in messages(datagram):
        if kind == ERROR:
            yield errno_of(body)
