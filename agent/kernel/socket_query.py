"""Asking the kernel about known TCP connections, many at once (sock_diag(7)).

A dump walks the machine's whole table of connections: on a machine with 24 GiB a quarter of a million buckets, 0.3 ms
even if there are no connections at all. A question about one connection costs 1.5 us, and one send(2) can carry any
number of them; the answers are taken with one recvmmsg(2). Questions are built once and asked at every stop.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.errors import KernelError
from agent.kernel.libc import NR, attempt_held
from agent.kernel.netlink import Netlink
from agent.kernel.sock_diag import NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, SOCKET, Sockets, read_alike
from transport.netlink_format import HEADER, REQUEST

_HEADER: Final = struct.Struct("<IHHII")
_SLOT_BYTES: Final = 1024
_VECTOR_BYTES: Final = 16  # struct iovec
_MESSAGE_BYTES: Final = 64  # struct mmsghdr
_AT_ONCE_MAX: Final = 1024
_RECEIVE_BUFFER_BYTES: Final = 4 << 20  # an answer costs about 2 KiB of it
_MSG_DONTWAIT: Final = 0x40


class SocketQuery:
    """A set of connections that is asked about again and again; in the network namespace in which it was made."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_SOCK_DIAG, "sock_diag")
        self._netlink.set_receive_buffer(_RECEIVE_BUFFER_BYTES)
        self._requests = np.zeros((0, 0), dtype=np.uint8)
        self._count = self._size = self._requests_at = self._messages_at = 0
        self._slots = np.zeros((0, _SLOT_BYTES), dtype=np.uint8)
        self._vectors = np.zeros((0, 2), dtype=np.uint64)
        self._messages = np.zeros((0, _MESSAGE_BYTES), dtype=np.uint8)

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()

    def prepare(self, bodies: Sequence[bytes]) -> None:
        """Set what is asked: requests made by `agent.kernel.sock_diag.request_one`."""
        self._count = count = len(bodies)
        self._size = size = HEADER.size + len(bodies[0]) if bodies else 0
        messages = np.zeros((count, size), dtype=np.uint8)
        if count:
            words = messages[:, : HEADER.size].view("<u4")
            words[:] = np.frombuffer(_HEADER.pack(size, SOCK_DIAG_BY_FAMILY, REQUEST, 0, 0), "<u4")
            words[:, 2] = np.arange(count)  # the sequence number comes back with the answer
            messages[:, HEADER.size :] = np.frombuffer(b"".join(bodies), np.uint8).reshape(count, -1)
        self._requests = messages
        self._requests_at = int(messages.ctypes.data)
        if min(self._count, _AT_ONCE_MAX) > len(self._slots):
            self._make_room(min(2 * self._count, _AT_ONCE_MAX))

    def ask(self) -> Sockets:
        """The connections' rows, in the order of the questions; all zeros for one that is there no more."""
        table = np.zeros(self._count, dtype=SOCKET)
        for start in range(0, self._count, _AT_ONCE_MAX):
            self._ask_some(table, start, min(start + _AT_ONCE_MAX, self._count))
        return table

    def _ask_some(self, table: Sockets, start: int, end: int) -> None:
        number, count = self._netlink.number, end - start
        requests, length = self._requests_at + start * self._size, count * self._size
        sent = attempt_held(NR.SENDTO, number, requests, length, 0, 0, 0)
        if sent < 0:
            raise KernelError("request of sock_diag", "known connections", -sent)
        got = attempt_held(NR.RECVMMSG, number, self._messages_at, count, _MSG_DONTWAIT, 0)
        if got != count:
            self._drain()
            raise KernelError("answer of sock_diag", f"{count} known connections ({got})", max(-got, 0))
        headers = self._slots[:got, : HEADER.size].view("<u4")
        order = headers[:, 2].astype(np.intp)
        found = (headers[:, 1] & 0xFFFF) == SOCK_DIAG_BY_FAMILY  # the others say that there is no such connection
        if found.all() and len(read := read_alike(self._slots[:got])) == got:
            table[order] = read
            return
        rest = np.flatnonzero(found)
        while len(rest):
            read = read_alike(self._slots[rest])
            table[order[rest[: len(read)]]] = read
            rest = rest[len(read) :]

    def _make_room(self, count: int) -> None:
        self._slots = np.zeros((count, _SLOT_BYTES), dtype=np.uint8)
        self._vectors = np.zeros((count, 2), dtype=np.uint64)
        self._vectors[:, 0] = self._slots.ctypes.data + np.arange(count, dtype=np.uint64) * _SLOT_BYTES
        self._vectors[:, 1] = _SLOT_BYTES
        self._messages = np.zeros((count, _MESSAGE_BYTES), dtype=np.uint8)
        words: NDArray[np.uint64] = self._messages.view(np.uint64)
        words[:, 2] = self._vectors.ctypes.data + np.arange(count, dtype=np.uint64) * _VECTOR_BYTES  # msg_iov
        words[:, 3] = 1  # msg_iovlen
        self._messages_at = int(self._messages.ctypes.data)

    def _drain(self) -> None:
        while attempt_held(NR.RECVFROM, self._netlink.number, self._slots.ctypes.data, _SLOT_BYTES, _MSG_DONTWAIT) > 0:
            pass
