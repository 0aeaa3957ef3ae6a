"""What systemd is told of this process (sd_notify(3)): that it answers, that it lives, that it ends. Nothing where it
is not systemd that has started it."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_PINGS_PER_LIMIT: Final = 3
"""A ping or two may be late."""


class ServiceManager:
    """Use `taken_from`. ping_s: how often to `ping`; None: nobody waits for it."""

    def __init__(self, address: str, ping_s: float | None) -> None:
        self.ping_s = ping_s
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @staticmethod
    def taken_from(environment: MutableMapping[str, str]) -> ServiceManager:
        """What the environment says of it, which is taken out: agents, the watchdog and programs inherit it, and none
        of them speaks for the daemon."""
        address = environment.pop("NOTIFY_SOCKET", "")
        limit_us, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_meant = limit_us.isdecimal() and int(limit_us) > 0 and pid in ("", str(os.getpid()))
        return ServiceManager(address, int(limit_us) / 1e6 / _PINGS_PER_LIMIT if is_meant else None)

    def ready(self, status: str) -> None:
        """It answers; status: one line for `systemctl status`."""
        self._tell(f"READY=1\nSTATUS={status}")

    def ping(self) -> None:
        """It does not hang. One that does not say so for WatchdogSec is killed and started again."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """It was told to end, and does."""
        self._tell("STOPPING=1")

    def _tell(self, words: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            try:
                out.sendto(words.encode(), self._address)
            except OSError:
                pass  # It is being replaced; what it has to know it will be told again.
