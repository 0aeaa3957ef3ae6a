"""What waits to be sent until a neighbour's hardware address is known: it has passed the barrier already.

While a link is down its kernel forgets its neighbours, and keeps what it sends meanwhile until one of them answers:
some segments each, for some seconds. A fence in between would be too late for them: they left when the link was back,
up to a second after it. To forget a neighbour that has not answered drops them (rtnetlink(7); net/core/neighbour.c,
`neigh_invalidate`).

Whoever stops a program does that, an agent or the watchdog, each with a netlink socket of its own.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Final

from transport.errors import KagemushaError
from transport.netlink_format import ACK, DUMP, attribute, attributes, codes, message, messages

_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NDA_DST: Final = 1
_FAMILIES: Final = {4: 2, 6: 10}
"""AF_INET, AF_INET6."""
_NUD_INCOMPLETE: Final = 0x01
_NEIGHBOUR: Final = struct.Struct("=BBHiHBB")
"""struct ndmsg: family, padding, interface, state, flags, type."""


Exchange = Callable[[bytes], list[bytes]]
"""Sends one datagram to rtnetlink and gives all datagrams that answer it, which are there when it was sent."""


class Waiting:
    """What waits in one network namespace. exchange: of a socket that was opened in it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def drop(self, version: int) -> int:
        """Drop what waits for neighbours that have not answered yet, of IPv4 (4) or IPv6 (6); gives for how many.

        Raises KagemushaError.
        """
        family = _FAMILIES[version]
        silent = self.silent(version)
        for index, address in silent:
            head = _NEIGHBOUR.pack(family, 0, 0, index, 0, 0, 0)
            answers = self._exchange(message(_RTM_DELNEIGH, ACK, head + attribute(_NDA_DST, address)))
            code = next(codes(answers), None)
            if code is None:
                raise KagemushaError("rtnetlink: the kernel does not answer")
            if code not in (0, errno.ENOENT):
                raise KagemushaError(f"can't drop what waits for a neighbour: {os.strerror(code)}")
        return len(silent)

    def silent(self, version: int) -> list[tuple[int, bytes]]:
        """Neighbours that were asked and have not answered: interface and address. Raises KagemushaError."""
        family = _FAMILIES[version]
        found: list[tuple[int, bytes]] = []
        for answer in self._exchange(message(_RTM_GETNEIGH, DUMP, _NEIGHBOUR.pack(family, 0, 0, 0, 0, 0, 0))):
            for kind, body in messages(answer):
                if kind == _RTM_NEWNEIGH:
                    _, _, _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
                    address = dict(attributes(body[_NEIGHBOUR.size :])).get(_NDA_DST)
                    if state & _NUD_INCOMPLETE and address is not None:
                        found.append((index, address))
        return found
