"""The network sockets of one program as its kernel lists them, looked up once for each stop."""

from __future__ import annotations

import os
import socket
from typing import Final

import numpy as np

from agent.context.kind import Walk
from agent.context.look import Look
from agent.errors import KernelError
from agent.kernel import procfs
from agent.kernel.namespaces import in_network_namespace
from agent.kernel.sock_diag import SOCKET, SocketDiagnosis, Sockets

FAMILY_OF: Final = {
    "TCP": socket.AF_INET,
    "TCPv6": socket.AF_INET6,
    "UDP": socket.AF_INET,
    "UDPv6": socket.AF_INET6,
}
_PROTOCOL_ATTRIBUTE: Final = "system.sockprotoname"
_RAW: Final = np.dtype((np.void, SOCKET.itemsize))
_FORGET_AT_LEAST: Final = 64

Rows = dict[int, bytes]
"""Raw rows of dtype `SOCKET`, by inode."""


class Network:
    """Answers what a program's sockets are. The lists are read at the first question of a walk and kept for it."""

    def __init__(self) -> None:
        self._diagnosis: SocketDiagnosis | None = None
        self._walk: Walk | None = None
        self._tcp: Rows | None = None
        self._udp: Rows | None = None
        self._protocols: dict[int, str] = {}
        self._seen: set[str] = set()

    def close(self) -> None:
        """Close what is open."""
        if self._diagnosis is not None:
            self._diagnosis.close()
            self._diagnosis = None

    def protocol(self, look: Look, walk: Walk) -> str:
        """The protocol of a socket's descriptor, "TCP", "TCPv6", "UDP", "UDPv6", "UNIX" and others; "" for what is
        no socket."""
        known = self._protocols.get(look.inode)
        if known is not None:
            return known
        if not look.link.startswith("socket:"):
            return ""
        try:
            name = os.getxattr(walk.path(look.number), _PROTOCOL_ATTRIBUTE).rstrip(b"\0").decode()
        except OSError as error:
            raise KernelError("getxattr", walk.where(look.number), error.errno or 0) from error
        if len(self._protocols) > _FORGET_AT_LEAST + 2 * len(walk.looks):
            inodes = {other.inode for other in walk.looks.values()}
            self._protocols = {inode: one for inode, one in self._protocols.items() if inode in inodes}
        self._protocols[look.inode] = name
        self._seen.add(name)
        return name

    def tcp(self, walk: Walk) -> Rows:
        """The TCP sockets of the program's network namespace that a descriptor can stand for."""
        self._begin(walk)
        if self._tcp is None:
            self._tcp = {}
            for name in self._seen & {"TCP", "TCPv6"}:
                self._tcp.update(_by_inode(self._open(walk).tcp(FAMILY_OF[name])))
        return self._tcp

    def udp(self, walk: Walk) -> Rows:
        """The bound UDP sockets of the program's network namespace."""
        self._begin(walk)
        if self._udp is None:
            self._udp = {}
            for name in self._seen & {"UDP", "UDPv6"}:
                self._udp.update(_by_inode(self._open(walk).udp(FAMILY_OF[name])))
        return self._udp

    def _begin(self, walk: Walk) -> None:
        if self._walk is walk:
            return
        self._walk = walk
        self._tcp = self._udp = None
        for look in walk.looks.values():
            self.protocol(look, walk)

    def _open(self, walk: Walk) -> SocketDiagnosis:
        if self._diagnosis is None:
            namespace = procfs.open_file(walk.pid, "ns/net")
            try:
                with in_network_namespace(namespace):
                    self._diagnosis = SocketDiagnosis()
            finally:
                os.close(namespace)
        return self._diagnosis


def row_of(raw: bytes) -> np.void:
    """A raw row as a structure of dtype `SOCKET`."""
    row: np.void = np.frombuffer(raw, dtype=SOCKET)[0]
    return row


def _by_inode(table: Sockets) -> Rows:
    rows = dict(zip(table["inode"].tolist(), table.view(_RAW).tolist(), strict=True))
    rows.pop(0, None)  # connections that wait to be accepted, and those that the program has closed
    return rows
