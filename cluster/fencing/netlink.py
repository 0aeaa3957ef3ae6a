"""One netlink(7) socket of the daemon or the watchdog, without anything else: they must not wait for other rooms."""

from __future__ import annotations

import socket
from typing import Final

from transport.errors import KagemushaError
from transport.netlink_format import codes

_BYTES_MAX: Final = 1 << 17


class Netlink:
    """Opened ahead, in the network namespace that is meant. Not for two threads."""

    def __init__(self, protocol: int) -> None:
        """Raises KagemushaError when this kernel has no such protocol."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise KagemushaError(f"netlink protocol {protocol}: {error.strerror}") from None
        self._socket.setblocking(False)

    def exchange(self, datagram: bytes) -> list[bytes]:
        """Send requests, and give all answers: the kernel's are there when the request was sent.

        Raises KagemushaError.
        """
        answers: list[bytes] = []
        try:
            self._socket.send(datagram)
            while True:
                answers.append(self._socket.recv(_BYTES_MAX))
        except BlockingIOError:
            return answers
        except OSError as error:
            raise KagemushaError(f"netlink: {error.strerror or error}") from None

    def change(self, request: bytes) -> int:
        """Send one request with ACK, and give what the kernel says of it: 0, or the errno. Raises KagemushaError."""
        for code in codes(self.exchange(request)):
            return code
        raise KagemushaError("netlink: the kernel does not answer")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
