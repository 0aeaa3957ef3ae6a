"""One connection of the client, and a server that ends it at a bad moment."""

from __future__ import annotations

import select
import socket
import struct

from kagemusha.demo.load import Load
from kagemusha.demo.writers import Writer

LIMIT_NS = 5_000_000_000
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def is_asked(server: socket.socket) -> bool:
    """Whether somebody waits to be accepted."""
    return bool(select.select([server], [], [], 0)[0])


def test_a_writer_that_broke_while_it_waited_for_its_turn_writes_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        load = Load()
        load.target = server.getsockname()
        load.set_rate(1)
        writer = Writer(load, "busy", 0)
        writer.connect()
        first, _ = server.accept()
        assert load.until(lambda: not writer.asked_ns, LIMIT_NS)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        first.close()
        assert load.until(lambda: is_asked(server), LIMIT_NS)
        second, _ = server.accept()
        assert load.until(lambda: not writer.asked_ns, LIMIT_NS)
        load.set_rate(0)
        with second:
            assert second.recv(4096).count(b"SET") == 1
        writer.close()
