"""What the kernel knows of a unix socket (sock_diag(7); linux/unix_diag.h): above all, who it is connected to.

Sockets are asked for one by one, by their inodes: a program has few, a machine may have hundreds.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from typing import Final

from agent.errors import KernelError

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_HEADER: Final = struct.Struct("<IHHII")
_REQUEST: Final = struct.Struct("<BBHIIIII")
_MESSAGE: Final = struct.Struct("<BBBxI8x")
_ATTRIBUTE: Final = struct.Struct("<HH")
_NLMSG_ERROR: Final = 2
_ENOENT: Final = 2
_SHOW_PEER, _SHOW_RQLEN = 4, 16
_NAME, _PEER, _RQLEN, _SHUTDOWN = 0, 2, 4, 6
_ANSWER_BYTES: Final = 8192
_NO_COOKIE: Final = 0xFFFFFFFF

LISTEN: Final = 10
SHUT_RECEIVE, SHUT_SEND = 1, 2


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """One socket.

    kind: SOCK_STREAM ... state: LISTEN, or what only the kernel cares for. peer: the inode of the other socket, 0 if
    there is none. waiting: bytes to be read, or connections to be accepted. backlog: of listen(2), if it listens.
    shutdown: SHUT_RECEIVE, SHUT_SEND.
    """

    inode: int
    kind: int
    state: int
    peer: int
    waiting: int
    backlog: int
    shutdown: int


class UnixDiagnosis:
    """A netlink socket to the unix sockets of the network namespace in which it was opened."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        except OSError as error:
            raise KernelError("socket", "NETLINK_SOCK_DIAG", error.errno or 0) from error
        self._sequence = 0

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def get(self, inode: int) -> UnixSocket | None:
        """One socket; None: there is none with this inode here. Raises KernelError where CONFIG_UNIX_DIAG lacks."""
        self._sequence += 1
        show = _SHOW_PEER | _SHOW_RQLEN
        body = _REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, show, _NO_COOKIE, _NO_COOKIE)
        size = _HEADER.size + len(body)
        request = _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0) + body
        target = f"unix socket {inode}"
        try:
            self._socket.send(request)
            answer = memoryview(self._socket.recv(_ANSWER_BYTES))
        except OSError as error:
            raise KernelError("unix_diag", target, error.errno or 0) from error
        length, kind, _, sequence, _ = _HEADER.unpack_from(answer)
        if kind == _NLMSG_ERROR:
            (error_number,) = struct.unpack_from("<i", answer, _HEADER.size)
            if -error_number == _ENOENT:
                return None
            raise KernelError("unix_diag", target, -error_number)
        if kind != _SOCK_DIAG_BY_FAMILY or sequence != self._sequence:
            raise KernelError("unix_diag", f"{target}: message of kind {kind}", errno.EBADMSG)
        return _parse(answer[_HEADER.size : length])


def _parse(message: memoryview) -> UnixSocket:
    _, kind, state, inode = _MESSAGE.unpack_from(message)
    peer = waiting = backlog = shutdown = 0
    at = _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        size, name = _ATTRIBUTE.unpack_from(message, at)
        if name == _PEER:
            (peer,) = struct.unpack_from("<I", message, at + 4)
        elif name == _RQLEN:
            waiting, backlog = struct.unpack_from("<II", message, at + 4)
        elif name == _SHUTDOWN:
            shutdown = message[at + 4]
        at += (max(size, _ATTRIBUTE.size) + 3) & ~3
    return UnixSocket(inode, kind, state, peer, waiting, backlog if state == LISTEN else 0, shutdown)
