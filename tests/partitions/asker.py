"""A client that asks the program, a real redis, who it is and for the next number, all the time."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import ADDRESS, Machine
from kagemusha.demo.story import PORT

EVERY_S = 0.004
PATIENCE_S = 0.25
IDENTITY = "identity"
_QUESTION = b"INCR number\r\nGET identity\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """asked_ns, heard_ns: CLOCK_REALTIME. number: that the program counted; no other reply has it."""

    asked_ns: int
    heard_ns: int
    number: int
    identity: str


class Asker:
    """Asks from a machine, in a thread of its own, over one connection for as long as that answers."""

    def __init__(self, machine: Machine) -> None:
        self.name = machine.name
        self.address = machine.address
        self.replies: list[Reply] = []
        self._machine = machine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with open(self._machine.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
            while not self._over.is_set():
                try:
                    with socket.create_connection((ADDRESS, PORT), timeout=PATIENCE_S) as connection:
                        # Closed by a reset: nothing of it goes on by itself.
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        while not self._over.wait(EVERY_S):
                            self._once(connection)
                except OSError:
                    self._over.wait(EVERY_S)

    def _once(self, connection: socket.socket) -> None:
        asked_ns, reply = time.time_ns(), b""
        connection.sendall(_QUESTION)
        while reply.count(b"\r\n") < 3:
            part = connection.recv(256)
            if not part:
                raise ConnectionResetError
            reply += part
        number, _, identity = reply.split(b"\r\n")[:3]
        self.replies.append(Reply(asked_ns, time.time_ns(), int(number[1:]), identity.decode()))
