"""An agent that is killed while it reads a connection leaves it in repair mode; what becomes of it then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.kernel.pidfd import get_descriptor
from agent.kernel.repair_mode import (
    NO_QUEUE,
    RECEIVE_QUEUE,
    REPAIR_ON,
    SEND_QUEUE,
    TCP_REPAIR,
    TCP_REPAIR_QUEUE,
    LeftBehind,
    end_repair_mode,
)
from agent.launch.spawner import Spawner

ECHO = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
connection, _ = listening.accept()
print(connection.fileno(), flush=True)
for _ in sys.stdin:
    connection.sendall(b"said, " + connection.recv(100))
"""
DEADLINE_S = 20.0


class Program:
    """Has one connection, and answers what it has got on it, once for each line that it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.client = socket.create_connection(("127.0.0.1", self._number()), timeout=DEADLINE_S)
        self.descriptor = self._number()

    def _number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def leave(self, queue: int) -> None:
        """What an agent does that is killed with this queue selected."""
        pidfd = os.pidfd_open(self.process.pid)
        with socket.socket(fileno=get_descriptor(pidfd, self.descriptor)) as one:
            one.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_ON)
            one.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        os.close(pidfd)

    def asked(self) -> bytes:
        """One question, and its answer."""
        assert self.process.stdin is not None
        self.client.sendall(b"hello")
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return self.client.recv(100)


@contextmanager
def program() -> Iterator[Program]:
    one = Program()
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate(timeout=DEADLINE_S)
        one.client.close()


def test_without_a_remedy_the_program_can_not_use_its_connection() -> None:
    with program() as one:
        one.leave(SEND_QUEUE)
        one.client.sendall(b"hello")
        assert one.process.stdin is not None
        one.process.stdin.write(b"\n")
        one.process.stdin.flush()
        assert one.process.wait(DEADLINE_S) == 1


def test_a_connection_that_was_just_being_read_goes_on() -> None:
    with program() as one:
        assert one.asked() == b"said, hello"
        one.leave(SEND_QUEUE)
        assert end_repair_mode(one.process.pid, all_of_them=False) == LeftBehind(going_on=1)
        assert one.asked() == b"said, hello"
        assert end_repair_mode(one.process.pid, all_of_them=True) == LeftBehind()


@pytest.mark.parametrize("queue", [RECEIVE_QUEUE, NO_QUEUE])
def test_one_whose_content_is_doubtful_is_reset_and_its_client_told(queue: int) -> None:
    with program() as one:
        one.leave(queue)
        assert end_repair_mode(one.process.pid, all_of_them=True) == LeftBehind(reset=1)
        with pytest.raises(ConnectionResetError):
            one.client.recv(100)


def test_what_is_meant_to_stay_in_repair_mode_is_left_to_the_successor() -> None:
    with program() as one:
        one.leave(NO_QUEUE)
        assert end_repair_mode(one.process.pid, all_of_them=False) == LeftBehind()
        assert end_repair_mode(one.process.pid, all_of_them=True) == LeftBehind(reset=1)


def test_the_helper_sees_to_it_as_soon_as_its_agent_is_gone() -> None:
    with program() as one:
        spawner = Spawner()
        spawner.start()
        spawner.mind(one.process.pid)
        one.leave(SEND_QUEUE)
        spawner.close()
        assert one.asked() == b"said, hello"
