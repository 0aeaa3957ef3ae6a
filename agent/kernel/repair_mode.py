"""Repair mode of TCP sockets (TCP_REPAIR, linux/tcp.h), and what an agent that was killed has left in it.

A program's call on a socket in repair mode fails (recv(2): EPERM), or means something else: what it sends goes to the
queue that is selected, be it that of what it has received; its close(2) is silent. So no socket may stay so while its
program runs. Which queue is selected tells how far the agent was: see `left_behind`.

The spawner's helper imports this: the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import socket
from dataclasses import dataclass
from typing import Final

from agent.errors import KernelError, TraceeGone
from agent.kernel import procfs
from agent.kernel.libc import NR, attempt_held
from agent.kernel.pidfd import open_pidfd, try_descriptor

TCP_REPAIR, TCP_REPAIR_QUEUE = 19, 20
REPAIR_OFF, REPAIR_ON, REPAIR_OFF_SILENT = 0, 1, -1
NO_QUEUE, RECEIVE_QUEUE, SEND_QUEUE = 0, 1, 2
_nowhere: Final = ctypes.create_string_buffer(16)
"""struct sockaddr of AF_UNSPEC: a connect(2) to it ends the connection that there is."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Connections of a program that were found in repair mode: how many go on, and how many were reset."""

    going_on: int = 0
    reset: int = 0


def end_repair_mode(pid: int, *, all_of_them: bool) -> LeftBehind:
    """Take the connections of a running process out of the repair mode in which its agent has left them.

    One with its send queue selected goes on: what the program has written meanwhile stands there, and is sent. Any
    other is reset: with the receive queue selected the program would find there what it has written itself, and with
    none selected the agent had just begun, or the connection was not meant to go on; those are passed over unless
    `all_of_them`. Raises KernelError and TraceeGone when the process is gone.
    """
    pidfd = open_pidfd(pid)
    going_on = reset = 0
    try:
        for number in procfs.descriptors(pid):
            try:
                if not procfs.read_link(pid, f"fd/{number}").startswith("socket:"):
                    continue
            except (KernelError, TraceeGone):  # closed meanwhile
                continue
            descriptor = try_descriptor(pidfd, number)
            if descriptor < 0:
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor) as one:
                queue = selected_queue(one)
                if queue == SEND_QUEUE:
                    one.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_SILENT)
                    going_on += 1
                elif queue is not None and (queue == RECEIVE_QUEUE or all_of_them):
                    _reset(one)
                    reset += 1
    finally:
        os.close(pidfd)
    return LeftBehind(going_on, reset)


def selected_queue(one: socket.socket) -> int | None:
    """The queue that is selected in repair mode; None: the socket is not in repair mode, or is none of TCP."""
    try:
        if not one.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR):
            return None
        return one.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE)
    except OSError:
        return None


def _reset(one: socket.socket) -> None:
    """Its peer is told at once, by a RST, and so is the program when it uses it next."""
    one.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_SILENT)
    attempt_held(NR.CONNECT, one.fileno(), ctypes.addressof(_nowhere), len(_nowhere))
