"""A client of redis that writes, one request after the other, and counts what it sees.

Run at the trial's client: `python -m tests.deploy.load HOST PORT`. It writes ascending numbers to one key until its
standard input ends, then reads it, and says what it saw as one JSON object.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

KEY = b"trial"
ANSWER_S_MAX = 20.0
PAUSE_S = 0.002


class Client:
    """One connection at a time. failed: requests without an answer, resets among them."""

    def __init__(self, host: str, port: int) -> None:
        self.answered = 0
        self.failed = 0
        self.acknowledged = 0
        self.waits_s: list[tuple[float, float]] = []
        self._where = host, port
        self._socket: socket.socket | None = None

    def write(self, number: int) -> None:
        """Write a number and wait for the answer."""
        start_s = time.monotonic()
        try:
            answer = self._ask(b"SET", KEY, b"%d" % number)
        except OSError:
            self.failed += 1
            self._socket = None
            return
        finally:
            self.waits_s.append((time.monotonic() - start_s, time.time()))
        if answer == b"+OK\r\n":
            self.answered += 1
            self.acknowledged = number
        else:
            self.failed += 1

    def read(self) -> int:
        """The number that is there."""
        for _ in range(50):
            try:
                head, _, body = self._ask(b"GET", KEY).partition(b"\r\n")
                return int(body) if head != b"$-1" else 0
            except OSError:
                self._socket = None
                time.sleep(0.1)
        return -1

    def _ask(self, *words: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.create_connection(self._where, ANSWER_S_MAX)
            self._socket.settimeout(ANSWER_S_MAX)
        head = b"*%d\r\n" % len(words)
        self._socket.sendall(head + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        answer = self._socket.recv(4096)
        if not answer:
            raise ConnectionResetError
        return answer


def main(host: str, port: int) -> None:
    """Write until standard input ends; say what was seen."""
    client = Client(host, port)
    number = client.read()
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        number += 1
        client.write(number)
    longest_s, at = max(client.waits_s, default=(0.0, 0.0))
    seen = {
        "answered": client.answered,
        "failed": client.failed,
        "longest_ms": round(longest_s * 1000, 1),
        "longest_at": at,
        "lost": max(client.acknowledged - client.read(), 0),
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
