"""One netlink(7) socket: requests and their answers.

Calls are made with the interpreter lock held: the kernel's answer is there when the request returns, and whoever waits
for it (a stopped program, a client during a takeover) must not wait for another Python thread, too.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import KernelError
from agent.kernel.libc import NR, attempt_held
from transport.netlink_format import ACK, DUMP, ERROR, HEADER, errno_of

_DONE: Final = 3
_SO_RCVBUFFORCE: Final = 33
_BUFFER_BYTES: Final = 128 << 10
_MSG_DONTWAIT: Final = 0x40


class Netlink:
    """A netlink socket of one protocol, in the network namespace in which it was opened. Not for two threads."""

    def __init__(self, protocol: int, name: str) -> None:
        """name: what it talks to, for errors. Raises KernelError."""
        self.name = name
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            self._socket.bind((0, 0))
        except OSError as error:
            raise KernelError("netlink socket", name, error.errno or 0) from error
        self.number = self._socket.fileno()
        self._buffer = np.zeros(_BUFFER_BYTES, dtype=np.uint8)
        self._view = self._buffer.data
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def set_receive_buffer(self, size_bytes: int) -> None:
        """Let so many bytes of answers wait (SO_RCVBUFFORCE)."""
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size_bytes)

    def send(self, kind: int, flags: int, body: bytes) -> int:
        """Send a request; give its sequence number."""
        self._sequence += 1
        header = HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0)
        self.send_datagram(header + body, f"request {kind}")
        return self._sequence

    def send_datagram(self, datagram: bytes, operation: str = "request") -> None:
        """Send messages that are whole already."""
        message = np.frombuffer(datagram, dtype=np.uint8)
        sent = attempt_held(NR.SENDTO, self.number, message.ctypes.data, len(message), 0, 0, 0)
        if sent < 0:
            raise KernelError(operation, self.name, -sent)

    def receive(self, *, wait: bool = True) -> NDArray[np.uint8]:
        """The next datagram, in a buffer that the next one overwrites. Without `wait`: KernelError EAGAIN for none."""
        flags = 0 if wait else _MSG_DONTWAIT
        size = attempt_held(NR.RECVFROM, self.number, self._buffer.ctypes.data, _BUFFER_BYTES, flags, 0, 0)
        if size < 0:
            raise KernelError("answer", self.name, -size)
        return self._buffer[:size]

    def answers(self, datagram: bytes) -> list[bytes]:
        """Send messages that are whole already, and give all datagrams that answer them: they are there by then."""
        self.send_datagram(datagram)
        found: list[bytes] = []
        while True:
            try:
                found.append(self.receive(wait=False).tobytes())
            except KernelError as error:
                if error.errno == errno.EAGAIN:
                    return found
                raise

    def header(self, at: int) -> tuple[int, int, int]:
        """Length, kind and sequence number of the message at offset `at` of the last datagram."""
        length, kind, _, sequence, _ = HEADER.unpack_from(self._view, at)
        return length, kind, sequence

    def exchange(self, kind: int, flags: int, body: bytes, target: str) -> list[bytes]:
        """Send a request and give the bodies of its answers. Raises KernelError naming `target`."""
        sequence = self.send(kind, flags, body)
        answers: list[bytes] = []
        while True:
            for answer_kind, content in self.messages(len(self.receive()), sequence):
                if answer_kind == _DONE:
                    return answers
                if answer_kind == ERROR:
                    error = errno_of(content)
                    if error:
                        raise KernelError(self.name, target, error)
                    return answers
                answers.append(content)
            if not flags & (DUMP | ACK) and answers:
                return answers

    def messages(self, size: int, sequence: int) -> Iterator[tuple[int, bytes]]:
        """Kind and body of each message of the last datagram that answers request `sequence`."""
        at = 0
        while at + HEADER.size <= size:
            length, kind, found = self.header(at)
            if length < HEADER.size:
                return
            if found == sequence:
                yield kind, bytes(self._view[at + HEADER.size : at + length])
            at += (length + 3) & ~3


def is_end(kind: int) -> bool:
    """Whether a message of this kind ends a dump."""
    return kind == _DONE


def is_error(kind: int) -> bool:
    """Whether a message of this kind carries an error number (0: an acknowledgement)."""
    return kind == ERROR
