"""Timeouts of sockets that belong to another process (here: to this one)."""

from __future__ import annotations

import os
import socket
import struct

from agent.kernel.pidfd import open_pidfd
from agent.tracing.socket_timeout import socket_timeout


def test_timeouts_are_read_in_seconds() -> None:
    one, other = socket.socketpair()
    pidfd = open_pidfd(os.getpid())
    with one, other:
        assert socket_timeout(pidfd, one.fileno(), True) is None
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("<qq", 1, 500_000))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("<qq", 2, 0))
        assert socket_timeout(pidfd, one.fileno(), True) == 1.5
        assert socket_timeout(pidfd, one.fileno(), False) == 2.0
    os.close(pidfd)


def test_what_is_no_socket_has_no_timeout_and_is_not_kept() -> None:
    pidfd = open_pidfd(os.getpid())
    null = os.open("/dev/null", os.O_RDONLY)
    before = os.listdir("/proc/self/fd")
    assert socket_timeout(pidfd, null, True) is None
    assert socket_timeout(pidfd, 9999, True) is None
    assert os.listdir("/proc/self/fd") == before
    os.close(null)
    os.close(pidfd)
