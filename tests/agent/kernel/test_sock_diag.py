"""The kernel's list of sockets: every field is what the socket itself says."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from agent.kernel.sock_diag import CLOSE_WAIT, ESTABLISHED, LISTEN, Row, SocketDiagnosis, request_one
from agent.kernel.socket_query import SocketQuery

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
ADDRESS_OF: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def diagnosis() -> Iterator[SocketDiagnosis]:
    diagnosis = SocketDiagnosis()
    yield diagnosis
    diagnosis.close()


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def rows_of(diagnosis: SocketDiagnosis, family: int) -> dict[int, Row]:
    return {int(row["inode"]): Row.read(row.tobytes()) for row in diagnosis.tcp(family)}


def pair(stack: ExitStack, family: int) -> tuple[socket.socket, socket.socket, socket.socket]:
    """A listening socket, a client, and the accepted end."""
    listening = stack.enter_context(socket.create_server((ADDRESS_OF[family], 0), family=family, backlog=17))
    client = stack.enter_context(socket.create_connection(listening.getsockname()[:2]))
    accepted = stack.enter_context(listening.accept()[0])
    return listening, client, accepted


@FAMILIES
def test_rows_say_what_the_sockets_say(diagnosis: SocketDiagnosis, stack: ExitStack, family: int) -> None:
    listening, client, accepted = pair(stack, family)
    client.sendall(b"12345")
    rows = rows_of(diagnosis, family)
    waiting = rows[inode(listening)]
    assert (waiting.state, waiting.send_queue, waiting.local_port) == (LISTEN, 17, listening.getsockname()[1])
    row = rows[inode(accepted)]
    width = 4 if family == socket.AF_INET else 16
    assert (row.family, row.state, row.shutdown) == (family, ESTABLISHED, 0)
    assert (row.local_port, row.peer_port) == (accepted.getsockname()[1], accepted.getpeername()[1])
    assert row.local[:width] == row.peer[:width] == socket.inet_pton(family, ADDRESS_OF[family])
    assert (row.receive_queue, row.send_queue, row.bytes_received) == (5, 0, 5)
    assert Row.read(row.encode()) == row
    client.shutdown(socket.SHUT_WR)
    rows = rows_of(diagnosis, family)
    assert rows[inode(accepted)].state == CLOSE_WAIT
    assert rows[inode(accepted)].bytes_received == 6  # the end of the stream counts


@FAMILIES
def test_a_row_stands_still_until_something_happens(diagnosis: SocketDiagnosis, stack: ExitStack, family: int) -> None:
    _, client, accepted = pair(stack, family)
    before = rows_of(diagnosis, family)[inode(accepted)]
    assert rows_of(diagnosis, family)[inode(accepted)] == before
    seen = {before}
    for happens in (lambda: client.send(b"x"), lambda: accepted.recv(1), lambda: accepted.send(b"y")):
        happens()
        seen.add(rows_of(diagnosis, family)[inode(accepted)])
    assert len(seen) == 4


@FAMILIES
def test_known_connections_are_answered_in_order(
    diagnosis: SocketDiagnosis, stack: ExitStack, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.kernel.socket_query._AT_ONCE_MAX", 64)
    ends = [end for _ in range(70) for end in pair(stack, family)[1:]]
    rows = rows_of(diagnosis, family)
    wanted = [rows[inode(end)] for end in ends]
    query = SocketQuery()
    stack.callback(query.close)
    query.prepare([request_one(row) for row in wanted])
    assert [Row.read(row.tobytes()) for row in query.ask()] == wanted
    ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends[0].close()
    answers = [Row.read(row.tobytes()) for row in query.ask()]
    assert answers[0].inode == 0
    assert [answer.inode for answer in answers[2:]] == [row.inode for row in wanted[2:]]
    query.prepare([])
    assert len(query.ask()) == 0


def test_a_thousand_sockets_come_in_many_messages(diagnosis: SocketDiagnosis, stack: ExitStack) -> None:
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=400))
    clients = [stack.enter_context(socket.create_connection(listening.getsockname())) for _ in range(300)]
    rows = rows_of(diagnosis, socket.AF_INET)
    assert {inode(client) for client in clients} <= rows.keys()
    assert rows[inode(listening)].receive_queue == 300


@FAMILIES
def test_a_destroyed_connection_ends_with_an_error(diagnosis: SocketDiagnosis, stack: ExitStack, family: int) -> None:
    listening, client, accepted = pair(stack, family)
    local, peer = accepted.getsockname(), accepted.getpeername()
    ends = (ip_address(local[0]), local[1], ip_address(peer[0]), peer[1])
    assert diagnosis.destroy(*ends)
    with pytest.raises(ConnectionAbortedError):
        accepted.recv(1)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert not diagnosis.destroy(*ends)
    # The socket that listens at the same address is none of it.
    stack.enter_context(socket.create_connection(listening.getsockname()[:2]))


@FAMILIES
def test_bound_datagram_sockets_are_listed(diagnosis: SocketDiagnosis, stack: ExitStack, family: int) -> None:
    one = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    one.bind((ADDRESS_OF[family], 0))
    rows = {int(row["inode"]): Row.read(row.tobytes()) for row in diagnosis.udp(family)}
    assert rows[inode(one)].local_port == one.getsockname()[1]
    assert rows[inode(one)].peer_port == 0
