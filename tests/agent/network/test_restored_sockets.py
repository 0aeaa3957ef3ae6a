"""Connections move from one node to another: every byte arrives once, in order, whatever stood in the queues."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.errors import RestoreError
from agent.kernel.sock_diag import SocketDiagnosis
from agent.network.restored_sockets import RestoredSockets
from tests.agent.lan import ADDRESS4, ADDRESS6
from tests.agent.moved_server import Server
from tests.agent.service import PORT, Service, ask, receive, running_service
from tests.victims.tcp_server import pattern

IN_EACH_FAMILY = pytest.mark.parametrize("address", [str(ADDRESS4.ip), str(ADDRESS6.ip)], ids=["IPv4", "IPv6"])


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as one:
        yield one


@IN_EACH_FAMILY
def test_idle_and_busy_connections_go_on_through_chained_moves(service: Service, address: str) -> None:
    service.serve("echo")
    connections = [service.lan.connect(address, PORT) for _ in range(5)]
    for connection in connections:
        ask(connection, b"first")
    for turn in range(4):

        def send_while_nobody_serves(text: bytes = b"flight%d" % turn) -> None:
            for connection in connections[:2]:
                connection.sendall(text)

        service.move(send_while_nobody_serves)
        for connection in connections[:2]:
            assert receive(connection, 7) == b"flight%d" % turn
        for connection in connections:
            ask(connection, b"after")
        with service.lan.connect(address, PORT) as new:
            ask(new, b"new")
    for connection in connections:
        connection.close()


@IN_EACH_FAMILY
def test_a_full_send_queue_arrives_whole(service: Service, address: str) -> None:
    size = 3 << 20
    service.serve("blast", bytes=size)
    connections = [service.lan.connect(address, PORT) for _ in range(3)]
    start = [receive(connection, 1000) for connection in connections]
    service.move()
    for connection, begun in zip(connections, start, strict=True):
        assert begun + receive(connection, size - 1000) == pattern(0, size)
        ask(connection, b"end")
        connection.close()


@IN_EACH_FAMILY
def test_a_full_receive_queue_is_read_whole(service: Service, address: str) -> None:
    size = 4 << 20
    service.serve("check")
    connection = service.lan.connect(address, PORT)
    connection.sendall(pattern(0, 1000))
    service.server.command(hold=True)
    data = pattern(0, size)

    def send() -> None:
        connection.sendall(data[1000:])
        connection.shutdown(socket.SHUT_WR)

    # The server reads nothing: its queue fills, then the client waits for room.
    sender = threading.Thread(target=send)
    sender.start()
    wait_for_a_full_queue(service, at_least=100_000)
    service.server.command(go=True)
    service.move()
    assert receive(connection, 8) == b"%d\n" % size
    sender.join()
    connection.close()


def wait_for_a_full_queue(service: Service, at_least: int) -> None:
    """Until so much waits to be read on the server's node, or the client has sent all."""
    with service.lan.inside(service.node):
        diagnosis = SocketDiagnosis()
    for _ in range(100_000):
        tables = (diagnosis.tcp(family) for family in (socket.AF_INET, socket.AF_INET6))
        if sum(int(table["receive_queue"].sum()) for table in tables) >= at_least:
            break
    diagnosis.close()


@IN_EACH_FAMILY
@pytest.mark.parametrize("size", [1000, 30_000])
def test_what_was_lost_on_the_wire_is_sent_again(service: Service, address: str, size: int) -> None:
    service.serve("echo")
    connections = [service.lan.connect(address, PORT) for _ in range(3)]
    for connection in connections:
        ask(connection, b"first")
    service.server.command(hold=True)
    data = pattern(0, size)
    for connection in connections:
        connection.sendall(data)
    wait_for_a_full_queue(service, at_least=3 * size)
    service.lan.set_cable("client", plugged=False)
    service.server.command(go=True)  # answers go into the void
    service.move(lambda: service.lan.set_cable("client", plugged=True))
    for connection in connections:
        assert receive(connection, size) == data
        ask(connection, b"end")
        connection.close()


@IN_EACH_FAMILY
def test_who_has_half_closed_gets_the_rest_and_the_end(service: Service, address: str) -> None:
    size = 3 << 20
    service.serve("blast", bytes=size)
    connection = service.lan.connect(address, PORT)
    connection.shutdown(socket.SHUT_WR)
    start = receive(connection, 1000)
    service.move()
    assert start + receive(connection, size - 1000) == pattern(0, size)
    assert connection.recv(1) == b""
    connection.close()


@IN_EACH_FAMILY
def test_the_end_of_a_stream_is_not_delayed_by_captures(service: Service, address: str) -> None:
    service.serve("oneshot")
    for _ in range(20):
        connection = service.lan.connect(address, PORT)
        service.checkpoint()
        connection.sendall(b"x")
        service.checkpoint()
        assert receive(connection, 1) == b"x"
        assert connection.recv(1) == b""
        connection.close()
    service.move()
    with service.lan.connect(address, PORT) as connection:
        connection.sendall(b"y")
        assert receive(connection, 1) == b"y"
        assert connection.recv(1) == b""


def test_datagram_sockets_go_on(service: Service) -> None:
    service.serve("echo", datagrams=[(socket.AF_INET, str(ADDRESS4.ip), PORT), (socket.AF_INET6, "::", PORT + 1)])
    with service.lan.inside("client"):
        clients = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
    for client, address, port in zip(clients, (ADDRESS4, ADDRESS6), (PORT, PORT + 1), strict=True):
        client.settimeout(10)
        client.connect((str(address.ip), port))
    for _ in range(3):
        for client in clients:
            client.send(b"datagram")
            assert client.recv(100) == b"datagram"
        service.move()
    for client in clients:
        client.close()


def test_options_of_listening_and_connected_sockets_come_along(service: Service) -> None:
    service.serve("echo")
    connection = service.lan.connect(str(ADDRESS4.ip), PORT)
    ask(connection, b"first")
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 12345),
        (socket.IPPROTO_IP, socket.IP_TOS, 0x10),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000),
    ]
    before = service.server.options(options)
    service.move()
    after = service.server.options([])
    assert after == before
    assert all(values["reuse"] for values in after.values())
    ask(connection, b"after")
    connection.close()


def test_a_port_that_is_taken_is_named(service: Service) -> None:
    service.serve("echo")
    service.checkpoint()
    with ExitStack() as stack:
        with service.lan.inside("second"):
            stack.enter_context(socket.create_server(("0.0.0.0", PORT)))
        other = stack.enter_context(Server(service.lan, "second"))
        other.command(adopt=service.held)
        restored = RestoredSockets(other.pidfd, exact=False)
        with pytest.raises(RestoreError, match=rf"10\.91\.0\.100, port {PORT}.*in use") as caught:
            restored.configure(service.records)
        assert "port" in caught.value.hint


@IN_EACH_FAMILY
def test_a_connection_of_the_node_itself_ends_with_an_error(service: Service, address: str) -> None:
    """The program sees it as aborted; connections of the service address go on beside it."""
    any_address = "::" if ":" in address else "0.0.0.0"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    service.server.command(serve={"mode": "echo", "listen": [(family, any_address, PORT)]})
    own = "fd91::1" if ":" in address else "10.91.0.1"
    with service.lan.connect(own, PORT) as of_the_node, service.lan.connect(address, PORT) as of_the_service:
        ask(of_the_node, b"first")
        ask(of_the_service, b"first")
        service.checkpoint()
        service.server.kill()
        service.addresses["first"].drop()
        restored = service.go_on_elsewhere(exact=True)
        assert len(restored.failed) == 1
        assert f"{own}, port {PORT}" in restored.failed[0]
        assert [one.connection[0] for one in restored.connections] == [address]
        errors = service.server.errors()
        assert sorted(errors.values()) == [0, 0, errno.ECONNABORTED]
