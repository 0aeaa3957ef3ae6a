"""The network sockets of one program as its kernel sees them, looked up once for each stop.

Known connections are asked about one by one, in a single request. What is not connected is looked at through its
descriptor; so is what is new, to learn what has to be asked.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from agent.context.kind import Walk
from agent.context.look import Look
from agent.errors import KernelError
from agent.kernel import procfs
from agent.kernel.namespaces import in_network_namespace
from agent.kernel.pidfd import get_descriptor
from agent.kernel.sock_diag import CLOSE, ESTABLISHED, LISTEN, SOCKET, Row, SocketDiagnosis, Sockets, request_one
from agent.kernel.socket_query import SocketQuery
from agent.kernel.tcp_repair import TCP_INFO, adopt, discard

FAMILY_OF: Final = {
    "TCP": socket.AF_INET,
    "TCPv6": socket.AF_INET6,
    "UDP": socket.AF_INET,
    "UDPv6": socket.AF_INET6,
}
_TCP: Final = frozenset({"TCP", "TCPv6"})
_PROTOCOL_ATTRIBUTE: Final = "system.sockprotoname"
_SO_COOKIE: Final = 57
_RAW: Final = np.dtype((np.void, SOCKET.itemsize))
_NOTHING: Final = (0, 0, 0, 0, 0, 0, 0, 0)  # the counters and windows at the end of a row
_FORGET_AT_LEAST: Final = 64
_SACKED_AT: Final = 28  # in struct tcp_info; of a listening socket: its backlog

Rows = dict[int, bytes]
"""Raw rows of dtype `SOCKET`, by inode."""


class Network:
    """Answers what a program's sockets are. The answers are got at the first question of a walk and kept for it."""

    def __init__(self) -> None:
        self._diagnosis: SocketDiagnosis | None = None
        self._query: SocketQuery | None = None
        self._second_query: SocketQuery | None = None
        self._walk: Walk | None = None
        self._tcp: Rows | None = None
        self._udp: Rows | None = None
        self._protocols: dict[int, str] = {}
        self._requests: dict[int, bytes] = {}
        self._asked: list[int] = []

    def close(self) -> None:
        """Close what is open."""
        if self._diagnosis is not None:
            self._diagnosis.close()
            self._diagnosis = None
        for query in (self._query, self._second_query):
            if query is not None:
                query.close()
        self._query = self._second_query = None
        self._asked = []

    def protocol(self, look: Look, walk: Walk) -> str:
        """The protocol of a socket's descriptor, "TCP", "TCPv6", "UDP", "UDPv6", "UNIX" and others; "" for what is
        no socket."""
        if not look.link.startswith("socket:"):
            return ""
        known = self._protocols.get(look.inode)
        if known is not None:
            return known
        try:
            name = os.getxattr(walk.path(look.number), _PROTOCOL_ATTRIBUTE).rstrip(b"\0").decode()
        except OSError as error:
            raise KernelError("getxattr", walk.where(look.number), error.errno or 0) from error
        if len(self._protocols) > _FORGET_AT_LEAST + 2 * len(walk.looks):
            inodes = {other.inode for other in walk.looks.values()}
            self._protocols = {inode: one for inode, one in self._protocols.items() if inode in inodes}
        self._protocols[look.inode] = name
        return name

    def tcp(self, walk: Walk) -> Rows:
        """The program's TCP sockets, each of which has a row."""
        self._begin(walk)
        if self._tcp is None:
            self._tcp = self._look_at_tcp(walk)
        return self._tcp

    def settled(self, walk: Walk, inodes: Iterable[int]) -> set[int]:
        """Of these connections, those whose queues are empty and whose row is one of a single moment.

        The kernel reads a queue's length and then the counters, and a segment may arrive in between: asked once more,
        it would have counted more.
        """
        rows = self.tcp(walk)
        asked = []
        for inode in inodes:
            row = Row.read(rows[inode])
            if row.state == ESTABLISHED and not row.receive_queue and not row.send_queue and inode in self._requests:
                asked.append(inode)
        if not asked:
            return set()
        if self._second_query is None:
            with _inside(walk.pid):
                self._second_query = SocketQuery()
        self._second_query.prepare([self._requests[inode] for inode in asked])
        raw = self._second_query.ask().view(_RAW).tolist()
        return {inode for inode, again in zip(asked, raw, strict=True) if again == rows[inode]}

    def udp(self, walk: Walk) -> Rows:
        """The bound UDP sockets of the program's network namespace."""
        self._begin(walk)
        if self._udp is None:
            names = {self.protocol(look, walk) for look in walk.looks.values()} & {"UDP", "UDPv6"}
            self._udp = {}
            for name in names:
                self._udp.update(_by_inode(self._open_diagnosis(walk).udp(FAMILY_OF[name])))
        return self._udp

    # ---------------------------------------------------------------- inside

    def _begin(self, walk: Walk) -> None:
        if self._walk is not walk:
            self._walk = walk
            self._tcp = self._udp = None

    def _look_at_tcp(self, walk: Walk) -> Rows:
        looks: dict[int, Look] = {}
        protocols = self._protocols
        for look in walk.looks.values():
            if look.link.startswith("socket:"):
                protocol = protocols.get(look.inode) or self.protocol(look, walk)
                if protocol in _TCP:
                    looks.setdefault(look.inode, look)
        rows: Rows = {}
        for inode, look in looks.items():
            if inode not in self._requests:
                self._introduce(look, walk, rows)
        for inode in self._ask(walk, looks, rows):
            # It is not what it was: closed by its peer, or connected anew.
            del self._requests[inode]
            self._introduce(looks[inode], walk, rows)
        self._ask(walk, {inode: look for inode, look in looks.items() if inode not in rows}, rows)
        for inode in looks.keys() - rows.keys():
            rows[inode] = _closed(inode, FAMILY_OF[self.protocol(looks[inode], walk)])
        return rows

    def _introduce(self, look: Look, walk: Walk, rows: Rows) -> None:
        """Learn what has to be asked about a connection; of another socket, make the row at once."""
        family = FAMILY_OF[self.protocol(look, walk)]
        duplicate = adopt(get_descriptor(walk.pidfd, look.number), family)
        try:
            row = _seen(duplicate, family, look.inode)
        finally:
            discard(duplicate)
        if row.state in (CLOSE, LISTEN):
            rows[look.inode] = row.encode()
        else:
            self._requests[look.inode] = request_one(row)

    def _ask(self, walk: Walk, looks: dict[int, Look], rows: Rows) -> list[int]:
        """Ask about the connections among `looks`, enter their rows; give the inodes that are no connections now."""
        inodes = [inode for inode in looks if inode in self._requests and inode not in rows]
        if not inodes:
            return []
        query = self._open_query(walk)
        if inodes != self._asked:
            if len(self._requests) > _FORGET_AT_LEAST + 2 * len(walk.looks):
                self._requests = {inode: self._requests[inode] for inode in inodes}
            query.prepare([self._requests[inode] for inode in inodes])
            self._asked = inodes
        table = query.ask()
        found = table["inode"].tolist()
        raw = table.view(_RAW).tolist()
        missing = []
        for index, inode in enumerate(inodes):
            if found[index] == inode:
                rows[inode] = raw[index]
            else:
                missing.append(inode)
        return missing

    def _open_diagnosis(self, walk: Walk) -> SocketDiagnosis:
        if self._diagnosis is None:
            with _inside(walk.pid):
                self._diagnosis = SocketDiagnosis()
        return self._diagnosis

    def _open_query(self, walk: Walk) -> SocketQuery:
        if self._query is None:
            with _inside(walk.pid):
                self._query = SocketQuery()
        return self._query


@contextmanager
def _inside(pid: int) -> Iterator[None]:
    """This thread works in the network namespace of a process."""
    namespace = procfs.open_file(pid, "ns/net")
    try:
        with in_network_namespace(namespace):
            yield
    finally:
        os.close(namespace)


def _seen(duplicate: socket.socket, family: int, inode: int) -> Row:
    """What a socket says of itself: of a connection, enough to ask the kernel about it."""
    information = duplicate.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _SACKED_AT + 4)
    cookie = int.from_bytes(duplicate.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")
    state, backlog = information[0], 0
    local, local_port, scope = _endpoint(duplicate.getsockname())
    peer, peer_port = bytes(16), 0
    if state == LISTEN:
        (backlog,) = struct.unpack_from("<I", information, _SACKED_AT)
    elif state != CLOSE:
        try:
            peer, peer_port, scope = _endpoint(duplicate.getpeername())
        except OSError:  # closed by its peer this moment
            state = CLOSE
    return Row(family, state, 0, 0, local_port, peer_port, local, peer, scope, cookie, 0, backlog, inode, *_NOTHING)


def _endpoint(name: tuple[str, int] | tuple[str, int, int, int]) -> tuple[bytes, int, int]:
    """Address (16 bytes), port and interface of what getsockname(2) gives."""
    if len(name) == 2:
        return socket.inet_pton(socket.AF_INET, name[0]).ljust(16, b"\0"), name[1], 0
    return socket.inet_pton(socket.AF_INET6, name[0].partition("%")[0]), name[1], name[3]


def _closed(inode: int, family: int) -> bytes:
    return Row(family, CLOSE, 0, 0, 0, 0, bytes(16), bytes(16), 0, 0, 0, 0, inode, *_NOTHING).encode()


def _by_inode(table: Sockets) -> Rows:
    rows = dict(zip(table["inode"].tolist(), table.view(_RAW).tolist(), strict=True))
    rows.pop(0, None)  # sockets that the program has closed
    return rows
