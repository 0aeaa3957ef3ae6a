"""The demo's clients, for servers behind Redis Sentinel: told at once where the primary is, as good libraries are.

    python -m tests.bench.takeover.sentinel_clients

knows one request more than `kagemusha.demo.load`:

    subscribe  name sentinels            hear from these, [[HOST, PORT], ...], of every new primary of that name, and
                                         from those before no more
"""

from __future__ import annotations

import functools
import gc
import socket
from typing import Any, Final

from kagemusha.demo.load import Load, Requests
from kagemusha.demo.resp import command
from kagemusha.demo.writers import READ

_CONNECT_S: Final = 5.0
_BYTES_MAX: Final = 1 << 16


class SentinelLoad(Load):
    """Whoever is connected to a primary that was replaced leaves it at once, and connects to the new one."""

    def __init__(self) -> None:
        super().__init__()
        self._name = b""
        self._sentinels: list[socket.socket] = []

    def subscribe(self, name: str, sentinels: list[list[Any]]) -> None:
        """See above. OSError for one that can't be reached."""
        self._name = name.encode()
        for sentinel in self._sentinels:
            self.forget(sentinel.fileno())
            sentinel.close()
        self._sentinels = [socket.create_connection((host, port), _CONNECT_S) for host, port in sentinels]
        for sentinel in self._sentinels:
            sentinel.sendall(command(b"SUBSCRIBE", b"+switch-master"))
            sentinel.setblocking(False)
            self.watch(sentinel.fileno(), READ, functools.partial(self._hear, sentinel))

    def _hear(self, sentinel: socket.socket, _events: int) -> None:
        try:
            said = sentinel.recv(_BYTES_MAX)
        except OSError:
            said = b""
        if not said:
            self.forget(sentinel.fileno())
        for line in said.split(b"\r\n"):
            words = line.split(b" ")
            if len(words) == 5 and words[0] == self._name:
                self._move((words[3].decode(), int(words[4])))

    def _move(self, target: tuple[str, int]) -> None:
        if target == self.target:
            return
        self.target = target
        for client in self.clients:
            if client.sock is not None:
                client.broken()


class SentinelRequests(Requests):
    """Knows `subscribe`."""

    def __init__(self, load: SentinelLoad) -> None:
        super().__init__(load)
        self._sentinel_load = load

    def _perform(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        if name != "subscribe":
            return super()._perform(name, request)
        self._sentinel_load.subscribe(**request)
        return {}


def main() -> None:
    """Serve the requests on the standard input."""
    gc.disable()
    SentinelRequests(SentinelLoad()).serve()


if __name__ == "__main__":
    main()
