"""Hearing at once that the addresses of this network namespace have changed (rtnetlink(7), RTMGRP_*_IFADDR)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

_GROUPS: Final = 0x10 | 0x100
_BYTES_MAX: Final = 1 << 16


class AddressEvents:
    """Calls `changed` in the event loop, once for any number of changes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _GROUPS))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._hear)

    def close(self) -> None:
        """Hear nothing more."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._socket.recv(_BYTES_MAX)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # More has changed than there was room for (ENOBUFS).
        self._changed()
