"""Fill redis with random values, as any client could: pipelined SETs. Nothing that compresses, nothing that repeats."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from kagemusha.demo.resp import command

VALUE_BYTES = 1024
LISTENS_S = 10.0
_BATCH = 256


def fill(host: str, port: int, mib: int, listens_s: float = LISTENS_S) -> dict[str, Any]:
    """Write `mib` MiB of random values; returns how many keys there are and what redis says of its memory, in bytes.

    Waits up to `listens_s` for redis to listen. OSError if redis can't be reached, ValueError if it refuses a value.
    """
    keys = mib * (1 << 20) // VALUE_BYTES
    with _connected(host, port, listens_s) as sock, sock.makefile("rb") as replies:
        for first in range(0, keys, _BATCH):
            numbers = range(first, min(first + _BATCH, keys))
            values = os.urandom(VALUE_BYTES * len(numbers))
            sock.sendall(
                b"".join(
                    command(b"SET", b"data:%d" % number, values[at : at + VALUE_BYTES])
                    for number, at in zip(numbers, range(0, len(values), VALUE_BYTES), strict=True)
                )
            )
            for _ in numbers:
                if (reply := replies.readline()) != b"+OK\r\n":
                    raise ValueError(f"redis answers {reply!r} to SET")
        sock.sendall(command(b"INFO", b"memory"))
        text = replies.read(int(replies.readline()[1:]) + 2).decode()
    memory = dict(line.partition(":")[::2] for line in text.split("\r\n") if ":" in line)
    return {"keys": keys, "used_memory_bytes": int(memory["used_memory"])}


def _connected(host: str, port: int, listens_s: float) -> socket.socket:
    end_s = time.monotonic() + listens_s
    while True:
        try:
            return socket.create_connection((host, port), timeout=20)
        except ConnectionRefusedError:
            if time.monotonic() > end_s:
                raise
        time.sleep(0.01)
