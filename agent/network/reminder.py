"""Says once a second who has the program's address, for those who did not hear it when it moved.

A client on the other side of a divided network hears nothing of a takeover, and when the network is whole again its
kernel goes on to ask the old node: for five to eight seconds, until it believes that nobody is there (arp(7),
delay_first_probe_time and what follows).
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from agent.errors import KernelError
from agent.network.address import ServiceAddress

log = structlog.get_logger()

EVERY_S: Final = 1.0


class Reminder:
    """Belongs to the event loop, as does `address`, whose sockets nobody else uses."""

    def __init__(self, address: ServiceAddress) -> None:
        self._address = address
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Remind from now on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._again)

    def close(self) -> None:
        """Remind no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._address.close()

    def remind(self) -> bool:
        """Tell the neighbours, if the address is on this node now: whoever stops a program takes it away first."""
        return self._address.is_here() and self._address.announce(times=1)

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._again)
        try:
            self.remind()
        except KernelError as error:
            log.warning("the neighbours are not told of the address", reason=error.what)
