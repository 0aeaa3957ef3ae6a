"""Lists of numbers in memory, a thread for each client: RPUSH, LLEN and LRANGE as redis answers them (RESP2).

/usr/bin/python3 lists.py 6379
"""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Callable
from typing import ClassVar


class Lists:
    """All lists, one lock."""

    def __init__(self) -> None:
        self._lists: dict[bytes, list[bytes]] = {}
        self._lock = threading.Lock()
        self._words: dict[bytes, Callable[..., bytes]] = {
            b"RPUSH": self._append,
            b"LLEN": self._length,
            b"LRANGE": self._all,
        }

    def answer(self, word: bytes, *arguments: bytes) -> bytes:
        """One command."""
        deed = self._words.get(word)
        with self._lock:
            return b"-ERR unknown command\r\n" if deed is None else deed(*arguments)

    def _append(self, name: bytes, value: bytes) -> bytes:
        numbers = self._lists.setdefault(name, [])
        numbers.append(value)
        return b":%d\r\n" % len(numbers)

    def _length(self, name: bytes) -> bytes:
        return b":%d\r\n" % len(self._lists.get(name, ()))

    def _all(self, name: bytes, *_: bytes) -> bytes:
        numbers = self._lists.get(name, [])
        return b"*%d\r\n" % len(numbers) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in numbers)


class Client(socketserver.StreamRequestHandler):
    """One connection, in a thread of its own."""

    lists: ClassVar[Lists] = Lists()

    def handle(self) -> None:
        """Until the client goes."""
        try:
            while head := self.rfile.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2])
                self.wfile.write(self.lists.answer(*words))
        except ConnectionError:
            pass


class Server(socketserver.ThreadingTCPServer):
    """Listens on all addresses."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("0.0.0.0", int(sys.argv[1])), Client) as server:
        server.serve_forever()
