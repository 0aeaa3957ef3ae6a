"""Reading a connection leaves no mark, and what was read makes the same connection again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.context.tcp import socket_address
from agent.errors import KernelError
from agent.kernel import tcp_repair
from agent.kernel.repair_mode import TCP_REPAIR
from agent.kernel.sock_diag import ESTABLISHED


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stack.enter_context(socket.create_connection(listening.getsockname()))
    return client, stack.enter_context(listening.accept()[0])


def exchange(one: socket.socket, other: socket.socket) -> None:
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"12345")
        assert receiver.recv(100) == b"12345"


def test_reading_leaves_no_mark(stack: ExitStack) -> None:
    client, accepted = pair(stack)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    exchange(client, accepted)
    for _ in range(3):
        state, _ = tcp_repair.read_connection(accepted)
        assert state.state == ESTABLISHED
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR) == 0
        exchange(client, accepted)


def test_both_ends_agree(stack: ExitStack) -> None:
    client, accepted = pair(stack)
    exchange(client, accepted)
    client.sendall(b"unread")
    one, _ = tcp_repair.read_connection(client)
    other, _ = tcp_repair.read_connection(accepted)
    assert one.send_next == other.receive_next
    assert other.send_next == one.receive_next
    assert other.receive_queue == b"unread"
    assert (one.mss, one.options) == (other.mss, other.options)
    assert (one.send_scale, one.receive_scale) == (other.receive_scale, other.send_scale)


def test_an_end_is_made_again_in_another_socket_and_in_the_same(stack: ExitStack) -> None:
    client, accepted = pair(stack)
    exchange(client, accepted)
    client.sendall(b"unread")
    state, _ = tcp_repair.read_connection(accepted, keep_repair=True)
    local, peer = (
        socket_address(socket.AF_INET, socket.inet_aton(host).ljust(16, b"\0"), port, 0)
        for host, port in (accepted.getsockname(), accepted.getpeername())
    )
    accepted.close()  # silently
    again = stack.enter_context(socket.socket())
    tcp_repair.begin(again, state)
    tcp_repair.bind(again, local)
    for turn in range(2):
        tcp_repair.connect(again, peer)
        tcp_repair.complete(again, state)
        if turn == 0:
            tcp_repair.disconnect(again, forget=True)
            tcp_repair.begin(again, state)
    tcp_repair.leave(again, probe=False)
    assert again.recv(100) == b"unread"
    exchange(client, again)


def test_a_frozen_end_says_nothing_when_it_is_closed(stack: ExitStack) -> None:
    client, accepted = pair(stack)
    client.sendall(b"never read")
    tcp_repair.freeze(accepted)
    accepted.close()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_a_connection_that_is_here_already_is_refused_by_name(stack: ExitStack) -> None:
    client, accepted = pair(stack)
    state, _ = tcp_repair.read_connection(accepted)
    local, peer = (
        socket_address(socket.AF_INET, socket.inet_aton(host).ljust(16, b"\0"), port, 0)
        for host, port in (accepted.getsockname(), accepted.getpeername())
    )
    again = stack.enter_context(socket.socket())
    tcp_repair.begin(again, state)
    tcp_repair.bind(again, local)
    with pytest.raises(KernelError, match=rf"127\.0\.0\.1, port {client.getsockname()[1]}"):
        tcp_repair.connect(again, peer)
