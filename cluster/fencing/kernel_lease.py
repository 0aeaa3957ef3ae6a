"""A lease that the kernel ends by itself: a program's traffic passes for as long as it is renewed, and not any longer.

The watchdog stops a program whose lease has ended. It is a process, and on a machine that has no memory, or no time, it
may come late; nobody may be served meanwhile. So the daemon tells the kernel of every lease, too: the address stands in
a set of nftables with the lease's end as its own (nft(8), "timeout"), and what is of an address that does not stand
there is dropped. Nothing has to be done for that, and nothing allocated.

It counts in jiffies, which stand still during a suspend: after one the watchdog is first, which goes by CLOCK_BOOTTIME.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Final

from cluster.fencing.lease_file import Watched
from cluster.fencing.netlink import Netlink
from transport.clock import boottime_s
from transport.netlink_format import CREATE
from transport.nftables import (
    DESTROY_ELEMENT,
    DESTROY_TABLE,
    NETLINK_NETFILTER,
    NEW_ELEMENT,
    Address,
    BarrierError,
    Nftables,
    element,
    is_equal,
    is_in,
    request,
    set_of,
    silencing,
    table_of,
    text,
)

SET: Final = "leased"
_SET_ID: Final = 1
_MARK: Final = b"kagemusha-lease"


class KernelLeases:
    """Those of one network namespace: the one in which it was made. Not for two threads."""

    def __init__(self) -> None:
        """Raises KagemushaError: this kernel has no nftables, or does not let this process have them."""
        self._netlink = Netlink(NETLINK_NETFILTER)
        self._nftables = Nftables(self._netlink.exchange)
        self._made: dict[str, Address] = {}

    def hold(self, watched: Watched, until_s: float) -> None:
        """Let the traffic of a primary's address pass until then (CLOCK_BOOTTIME), and no longer. For one that has no
        address there is nothing to do.

        Raises BarrierError: then what was said before counts.
        """
        if not (watched.address and watched.instance):
            return
        address, table = ipaddress.ip_interface(watched.address).ip, _table(watched.instance)
        left_ms = int((until_s - boottime_s()) * 1000)
        held = [request(NEW_ELEMENT, CREATE, element(table, SET, address, left_ms))] if left_ms > 0 else []
        before = request(DESTROY_ELEMENT, 0, element(table, SET, address))
        if self._made.get(table) == address and self._nftables.change([before, *held]) == 0:
            return
        # The first time, or somebody has flushed all tables.
        self._made.pop(table, None)
        its_set = set_of(table, SET, _SET_ID, address, with_timeout=True)
        steps = is_equal(address.packed), is_in(SET, _SET_ID, inverted=True)
        code = self._nftables.change([*silencing(table, address, its_set, steps, _MARK), *held])
        if code:
            raise BarrierError(f"the kernel keeps no lease of {address}: {os.strerror(code)}", hint="it takes nftables")
        self._made[table] = address

    def forget(self, instance: str) -> None:
        """Nothing depends on a lease any more. Raises BarrierError."""
        table = _table(instance)
        self._made.pop(table, None)
        code = self._nftables.change([request(DESTROY_TABLE, 0, text(1, table))])
        if code:
            raise BarrierError(f"can't remove table {table}: {os.strerror(code)}")

    def close(self) -> None:
        """Close the socket; what was said counts on."""
        self._netlink.close()


def _table(instance: str) -> str:
    """Beside the barrier's own."""
    return table_of(instance, "lease")
