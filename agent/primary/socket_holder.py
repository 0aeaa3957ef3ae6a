"""Holds the sockets of a dying program, so that its end says nothing to its peers.

A program that is killed closes its sockets, and its kernel sends FIN or RST: the very connections that another node is
about to continue would end. Duplicates prevent that, and repair mode makes the final close(2) silent, whoever it is
that closes last. Duplicates are taken only of a program that will never run again; of a running one they would swallow
its own FIN.
"""

from __future__ import annotations

import os
import socket

from agent.context.by_kind import records_of_kind
from agent.context.tcp import decoded
from agent.errors import KernelError
from agent.kernel.pidfd import get_descriptor
from agent.kernel.sock_diag import LISTEN
from agent.kernel.tcp_repair import adopt, discard, freeze, state_of
from transport.checkpoint import Records


class SocketHolder:
    """Takes all TCP sockets of one dying program and lets go of them without a word."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self, pidfd: int, records: Records) -> None:
        """Hold every TCP socket that `records`, those of the last capture, name. Then the program may die.

        What has been closed meanwhile is passed over.
        """
        for number, data in records_of_kind(records, "tcp"):
            try:
                descriptor = get_descriptor(pidfd, number)
            except KernelError:
                continue
            one = adopt(descriptor, decoded(data).family)
            self._held.append(one)
            _silence(one)

    def release_silently(self) -> None:
        """Let go of all; no FIN and no RST is sent."""
        for one in self._held:
            _silence(one)
            discard(one)
        self._held = []

    def __len__(self) -> int:
        return len(self._held)


def _silence(one: socket.socket) -> None:
    """From now on this socket's end is silent, and that of the connections that wait in it to be accepted."""
    if state_of(one) != LISTEN:
        freeze(one)
        return
    os.set_blocking(one.fileno(), False)
    while True:
        try:
            waiting, _ = one.accept()
        except OSError:  # none left
            return
        freeze(waiting)
        discard(waiting)
