"""The barrier: not a packet of a program's address enters or leaves this node, whoever would send it. Pure.

A program that is frozen still has a kernel, which acknowledges what its clients send and sends again what they have not
acknowledged. So each instance has a table of nftables of its own, `inet kagemusha.<program>.<node>`, and a fence begins
with the address being put into its set `silent`: what is from or to it is dropped. It stays there, whatever becomes of
who put it there; the next who claims the address here takes it out again, under a lease.

Agents and the watchdog both need it, and open their own netlink sockets: here are only the messages and what their
answers mean.
"""

from __future__ import annotations

import errno
import os

from transport.netlink_format import CREATE, attributes
from transport.nftables import (
    DELETE_ELEMENT,
    DELETE_TABLE,
    GET_ELEMENT,
    GET_RULE,
    GET_TABLE,
    NEW_ELEMENT,
    PREFIX,
    Address,
    BarrierError,
    Exchange,
    Nftables,
    element,
    is_in,
    name_of,
    request,
    set_of,
    silencing,
    table_of,
    text,
)

_SET, _SET_ID = "silent", 1


class Barriers:
    """All barriers of one network namespace. exchange: of a socket that was opened in it."""

    def __init__(self, exchange: Exchange) -> None:
        self._nftables = Nftables(exchange)

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
        silent = request(NEW_ELEMENT, CREATE, _element(instance, address))
        if self._nftables.change([silent]) == 0 and self.stands(instance, address):
            return
        # Not staged, or not any more: somebody has flushed all tables, say.
        self._make(instance, address, silent)
        if not self.stands(instance, address):
            raise BarrierError(f"the traffic of {address} is not dropped, though the kernel said so")

    def lift(self, instance: str, address: Address) -> bool:
        """Let everything pass again; False when nothing was dropped. Raises BarrierError."""
        if not self._is_silent(instance, address):
            # The kernel takes back a change that fails only after an RCU grace period: 15 ms of a takeover.
            return False
        code = self._nftables.change([request(DELETE_ELEMENT, 0, _element(instance, address))])
        if code not in (0, errno.ENOENT):
            raise BarrierError(f"can't let traffic of {address} pass again: {os.strerror(code)}")
        return code == 0

    def remove(self, instance: str) -> None:
        """Take away what was made for this instance, whatever it drops. Raises BarrierError."""
        code = self._nftables.change([request(DELETE_TABLE, 0, text(1, table_of(instance)))])
        if code not in (0, errno.ENOENT):
            raise BarrierError(f"can't remove table {table_of(instance)}: {os.strerror(code)}")

    def stands(self, instance: str, address: Address) -> bool:
        """Whether the kernel drops what is of this address. Raises BarrierError."""
        return self._is_silent(instance, address) and self._is_staged(instance, address)

    def _is_silent(self, instance: str, address: Address) -> bool:
        """Whether the address is in the set, whatever that is good for."""
        of_the_set = text(1, table_of(instance)) + text(2, _SET)
        for body in self._nftables.dump(GET_ELEMENT, of_the_set):
            elements = dict(attributes(body)).get(3, b"")
            for _, found in attributes(elements):
                key = dict(attributes(dict(attributes(found)).get(1, b"")))
                if key.get(1) == address.packed:
                    return True
        return False

    def instances(self) -> frozenset[str]:
        """For which instances there is something here. Raises BarrierError."""
        names = (name_of(dict(attributes(body)), 1).split(".") for body in self._nftables.dump(GET_TABLE, b""))
        return frozenset(f"{name[1]}@{name[2]}" for name in names if len(name) == 3 and name[0] == PREFIX)

    def _is_staged(self, instance: str, address: Address) -> bool:
        """Whether both rules are there, for addresses of this kind."""
        found = set()
        for body in self._nftables.dump(GET_RULE, text(1, table_of(instance))):
            parts = dict(attributes(body))
            if name_of(parts, 1) == table_of(instance):
                found.add((name_of(parts, 2), parts.get(7, b"")))
        mark = _mark(address)
        return {("output", mark), ("input", mark)} <= found

    def _make(self, instance: str, address: Address, *more: bytes) -> None:
        table = table_of(instance)
        its_set = set_of(table, _SET, _SET_ID, address)
        changes = silencing(table, address, its_set, [is_in(_SET, _SET_ID)], _mark(address))
        code = self._nftables.change([*changes, *more])
        if code:
            raise BarrierError(f"can't make a table to drop {address}: {os.strerror(code)}", hint="it takes nftables")


def _element(instance: str, address: Address) -> bytes:
    return element(table_of(instance), _SET, address)


def _mark(address: Address) -> bytes:
    """What a rule for such addresses is known by."""
    return b"kagemusha-%d" % address.version
