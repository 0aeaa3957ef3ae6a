"""The network sockets of one program as its kernel sees them, looked up once for each stop.

Known connections are asked about one by one, in a single request. What is not connected is looked at through its
descriptor; so is what is new, to learn what has to be asked.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from agent.context.kind import Walk
from agent.context.look import Look
from agent.errors import KernelError
from agent.kernel import procfs
from agent.kernel.libc import NR, attempt_held
from agent.kernel.namespaces import in_network_namespace
from agent.kernel.pidfd import get_descriptor
from agent.kernel.sock_diag import CLOSE, LISTEN, SOCKET, Row, SocketDiagnosis, Sockets, request_one
from agent.kernel.socket_facts import tcp_facts
from agent.kernel.socket_query import SocketQuery
from agent.scout.scout import Scout

FAMILY_OF: Final = {
    "TCP": socket.AF_INET,
    "TCPv6": socket.AF_INET6,
    "UDP": socket.AF_INET,
    "UDPv6": socket.AF_INET6,
}
_TCP: Final = frozenset({"TCP", "TCPv6"})
_PROTOCOL_ATTRIBUTE: Final = "system.sockprotoname"
_RAW: Final = np.dtype((np.void, SOCKET.itemsize))
_NOTHING: Final = (0, 0, 0, 0, 0, 0, 0, 0)  # the counters and windows at the end of a row
_FORGET_AT_LEAST: Final = 64
_LEARNT_AT_ONCE: Final = 24

Rows = dict[int, bytes]
"""Raw rows of dtype `SOCKET`, by inode."""


class Network:
    """Answers what a program's sockets are. The answers are got at the first question of a walk and kept for it.

    connections: the requests about those that were there at the last stop, for the scout to ask at the next one.
    """

    def __init__(self, scout: Scout | None = None) -> None:
        self._scout = scout or Scout()
        self._diagnosis: SocketDiagnosis | None = None
        self._query: SocketQuery | None = None
        self._second_query: SocketQuery | None = None
        self._walk: Walk | None = None
        self._tcp: Rows | None = None
        self._udp: Rows | None = None
        self.connections: tuple[bytes, ...] = ()
        self._protocols: dict[int, str] = {}
        self._requests: dict[int, bytes] = {}
        self._asked: list[int] = []
        self._prepared: list[int] = []
        self._met: set[int] = set()

    def close(self) -> None:
        """Close what is open."""
        if self._diagnosis is not None:
            self._diagnosis.close()
            self._diagnosis = None
        for query in (self._query, self._second_query):
            if query is not None:
                query.close()
        self._query = self._second_query = None
        self._asked, self._prepared, self.connections = [], [], ()

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

    def tcp(self, walk: Walk, looks: Iterable[Look] | None = None) -> Rows:
        """The program's TCP sockets, each of which has a row; `looks`: all of them, where they are known already."""
        self._begin(walk)
        if self._tcp is None:
            if looks is None:
                looks = (look for look in walk.looks.values() if self.protocol(look, walk) in _TCP)
            self._tcp = self._look_at_tcp(walk, {look.inode: look for look in looks})
        return self._tcp

    def learn(self, walk: Walk) -> bool:
        """Get to know some connections that are not known; False when there are none."""
        strangers = [
            look
            for look in walk.looks.values()
            if self.protocol(look, walk) in _TCP and look.inode not in self._requests and look.inode not in self._met
        ]
        for look in strangers[:_LEARNT_AT_ONCE]:
            self._met.add(look.inode)
            self._introduce(look, walk, {})
        return bool(strangers)

    def settled(self, walk: Walk, inodes: Iterable[int]) -> set[int]:
        """Of these connections, whose queues are empty, those whose row is one of a single moment.

        The kernel reads a queue's length and then the counters, and a segment may arrive in between: asked once more,
        it would have counted more.
        """
        rows = self.tcp(walk)
        asked = [inode for inode in inodes if inode in self._requests]
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

    def _look_at_tcp(self, walk: Walk, looks: dict[int, Look]) -> Rows:
        rows: Rows = {}
        for inode, look in looks.items():
            if inode not in self._requests:
                self._introduce(look, walk, rows)
        for inode in self._ask(walk, looks, rows):
            # It is not what it was: closed by its peer, or connected anew.
            del self._requests[inode]
            self._asked, self._prepared, self.connections = [], [], ()
            self._introduce(looks[inode], walk, rows)
        if len(rows) < len(looks):
            self._ask(walk, {inode: look for inode, look in looks.items() if inode not in rows}, rows)
        for inode in looks.keys() - rows.keys():
            rows[inode] = _closed(inode, FAMILY_OF[self.protocol(looks[inode], walk)])
        self._expect(walk, [inode for inode in looks if inode in self._requests])
        return rows

    def _expect(self, walk: Walk, inodes: list[int]) -> None:
        """These will be asked about at the next stop, too."""
        if inodes == self._asked:
            return
        if len(self._requests) > _FORGET_AT_LEAST + 2 * len(walk.looks):
            self._requests = {inode: self._requests[inode] for inode in inodes}
        self._asked, self.connections = inodes, tuple(self._requests[inode] for inode in inodes)

    def _take_from_scout(self, looks: dict[int, Look], rows: Rows) -> None:
        """Enter the rows of those connections that the scout has asked about, and that are what they were."""
        table = self._scout.rows()
        if table is None:
            return
        here = table["inode"] == np.array(self._asked, np.uint32)
        told = zip(self._asked, table.view(_RAW).tolist(), here.tolist(), strict=True)
        rows.update((inode, row) for inode, row, is_here in told if is_here and inode in looks)

    def _introduce(self, look: Look, walk: Walk, rows: Rows) -> None:
        """Learn what has to be asked about a connection; of another socket, make the row at once."""
        family = FAMILY_OF[self.protocol(look, walk)]
        duplicate = get_descriptor(walk.pidfd, look.number)
        try:
            seen = tcp_facts(duplicate, family)
        finally:
            attempt_held(NR.CLOSE, duplicate)
        ends = seen.local_port, seen.peer_port, seen.local, seen.peer, seen.interface, seen.cookie
        row = Row(family, seen.state, 0, 0, *ends, 0, seen.backlog, look.inode, *_NOTHING)
        if seen.state in (CLOSE, LISTEN):
            rows[look.inode] = row.encode()
        else:
            self._requests[look.inode] = request_one(row)

    def _ask(self, walk: Walk, looks: dict[int, Look], rows: Rows) -> list[int]:
        """Ask about the connections among `looks`, enter their rows; give the inodes that are no connections now."""
        self._take_from_scout(looks, rows)
        inodes = [inode for inode in looks if inode in self._requests and inode not in rows]
        if not inodes:
            return []
        query = self._open_query(walk)
        if inodes != self._prepared:
            query.prepare([self._requests[inode] for inode in inodes])
            self._prepared = inodes
        table = query.ask()
        raw = table.view(_RAW).tolist()
        found = table["inode"] == np.array(inodes, np.uint32)
        if found.all():
            rows.update(zip(inodes, raw, strict=True))
            return []
        missing = []
        for inode, row, here in zip(inodes, raw, found.tolist(), strict=True):
            if here:
                rows[inode] = row
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


def _closed(inode: int, family: int) -> bytes:
    return Row(family, CLOSE, 0, 0, 0, 0, bytes(16), bytes(16), 0, 0, 0, 0, inode, *_NOTHING).encode()


def _by_inode(table: Sockets) -> Rows:
    rows = dict(zip(table["inode"].tolist(), table.view(_RAW).tolist(), strict=True))
    rows.pop(0, None)  # sockets that the program has closed
    return rows
