"""TCP records: unchanged ones are the same bytes, and what counters tell is what an exact look finds."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator

import pytest

from agent.context import network
from agent.context.record import unpack
from agent.context.tcp import BUSY, CONNECTED, HALF_CLOSED, LISTENING, UNCONNECTED, Tcp
from agent.errors import KernelError
from agent.kernel.sock_diag import CLOSE, SocketDiagnosis
from agent.kernel.socket_facts import SocketFacts, tcp_facts
from agent.kernel.tcp_repair import Connection
from tests.agent.lan import ADDRESS4, ADDRESS6
from tests.agent.moved_server import SocketCapture
from tests.agent.plain_copy import DEADLINE_S
from tests.agent.scouting import PatientScout
from tests.agent.service import PORT, Service, ask, running_service
from transport.checkpoint import Records


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as one:
        one.serve("echo")
        yield one


def connect_all(service: Service, count: int) -> list[socket.socket]:
    addresses = [str(ADDRESS4.ip), str(ADDRESS6.ip)]
    connections = [service.lan.connect(addresses[index % 2], PORT) for index in range(count)]
    for connection in connections:
        ask(connection, b"first")
    return connections


def close_all(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def read_all(records: Records) -> dict[str, Tcp]:
    return {key: unpack(Tcp, data, key) for key, data in records.items()}


def test_unchanged_sockets_keep_their_bytes_and_are_not_touched(service: Service) -> None:
    connections = connect_all(service, 6)
    service.server.command(hold=True)
    with SocketCapture(service.server) as capture:
        before = capture.capture()
        assert len(before) == 2 + len(connections)
        connections[2].sendall(b"x")
        wait_for_arrival(service, 1)
        after = capture.capture()
        changed = {key for key in before if after[key] != before[key]}
        assert len(changed) == 1
        assert all(after[key] is before[key] for key in before.keys() - changed)
    close_all(connections)


def test_a_connection_with_bytes_on_their_way_is_read_once_it_is_quiet(service: Service) -> None:
    connections = connect_all(service, 2)
    service.server.command(hold=True)
    with SocketCapture(service.server) as capture:
        before = capture.capture()
        connections[1].sendall(b"x")
        wait_for_arrival(service, 1)
        noted = read_all(capture.capture(exact=False))
        (key,) = (key for key in before if noted[key].role == BUSY)
        ends_s = time.monotonic() + DEADLINE_S
        while (quiet := read_all(capture.capture(exact=False)))[key].role == BUSY:
            assert time.monotonic() < ends_s
        assert (noted[key].local, noted[key].peer) == (quiet[key].local, quiet[key].peer)
        assert quiet[key].state().receive_queue == b"x"
    close_all(connections)


def test_new_connections_are_read_a_few_at_each_stop(service: Service) -> None:
    connections = connect_all(service, 10)
    service.server.command(hold=True)
    with SocketCapture(service.server) as capture:
        read = []
        for _ in range(5):
            records = read_all(capture.capture(exact=False)).values()
            read.append(sum(record.role == CONNECTED for record in records))
            assert sum(record.role == BUSY for record in records) == 10 - read[-1]
    assert read == [0, 4, 8, 10, 10]
    close_all(connections)


def test_a_last_checkpoint_reads_every_connection_exactly(service: Service) -> None:
    connections = connect_all(service, 2)
    service.server.command(hold=True)
    with SocketCapture(service.server) as capture:
        capture.capture(exact=False)
        connections[0].sendall(b"x")
        wait_for_arrival(service, 1)
        assert BUSY in {record.role for record in read_all(capture.capture(exact=False)).values()}
        last = read_all(capture.capture(exact=True))
        assert sorted(record.role for record in last.values()) == [LISTENING, LISTENING, CONNECTED, CONNECTED]
        assert b"x" in {record.state().receive_queue for record in last.values() if record.role == CONNECTED}
    close_all(connections)


def wait_for_arrival(service: Service, count: int) -> None:
    """Until so many bytes wait to be read on the server's node."""
    with service.lan.inside(service.node):
        diagnosis = SocketDiagnosis()
    while count > sum(int(diagnosis.tcp(family)["receive_queue"].sum()) for family in (2, 10)):
        pass
    diagnosis.close()


def without_clock(state: Connection) -> tuple[object, ...]:
    """All but what the kernel alone knows: which segment last moved the windows."""
    window = state.window
    promised = (window.receive_update + window.receive) & 0xFFFFFFFF
    fields = (state.send_next, state.send_queue, state.receive_next, state.receive_queue, state.mss)
    return (*fields, state.options, state.send_scale, state.receive_scale, window.send, promised)


def test_what_counters_tell_is_what_an_exact_look_finds(service: Service) -> None:
    """Many rounds of traffic of all sizes; after each the same sockets are captured by who knows them and by a
    stranger, who has to look exactly."""
    assert compared_in_rounds(service, None, 40) > 100


def test_so_it_is_with_what_a_scout_was_told(service: Service) -> None:
    """And connections come and go meanwhile."""
    scout = PatientScout()
    with scout:
        assert compared_in_rounds(service, scout, 25) > 50
    assert scout.told > 100


def test_a_capture_that_fails_in_the_middle_leaves_no_question_without_its_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = connect_all(service, 4)
    service.server.command(hold=True)
    scout = PatientScout()
    with scout, SocketCapture(service.server, scout) as capture:
        whole = capture.capture()
        connections[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connections.pop(1).close()  # with a reset: it is not what it was

        def refused(duplicate: int, family: int) -> SocketFacts:
            if (seen := tcp_facts(duplicate, family)).state == CLOSE:
                raise KernelError("getsockopt", "a connection", 107)
            return seen

        with monkeypatch.context() as patched:
            patched.setattr(network, "tcp_facts", refused)
            with pytest.raises(KernelError):
                capture.capture()
        assert len(capture.capture()) == len(whole)
        capture.capture()
    close_all(connections)


def compared_in_rounds(service: Service, scout: PatientScout | None, rounds: int) -> int:
    """How many records of connections were compared."""
    chance = random.Random(7)
    connections = connect_all(service, 8)
    compared = 0
    with SocketCapture(service.server, scout) as capture:
        for _ in range(rounds):
            if scout is not None:
                connections.pop(0).close()
                connections += connect_all(service, 1)
            for connection in chance.sample(connections, 3):
                for _ in range(chance.randrange(1, 4)):
                    ask(connection, b"x" * chance.choice((1, 100, 1448, 5000, 70_000)))
            service.server.command(hold=True)
            told = capture.capture()
            with SocketCapture(service.server) as stranger:
                exact = stranger.capture()
            after = capture.capture()
            service.server.command(go=True)
            assert told.keys() == exact.keys()
            for key, record in read_all(told).items():
                other = unpack(Tcp, exact[key], key)
                if record.role == BUSY:
                    continue
                assert (record.role, record.local, record.peer) == (other.role, other.local, other.peer)
                # A late acknowledgement may have arrived between the two looks.
                if record.role == CONNECTED and after[key] is told[key]:
                    compare(record.state(), other.state())
                    compared += 1
    close_all(connections)
    return compared


def compare(told: Connection, exact: Connection) -> None:
    *told_fields, told_promised = without_clock(told)
    *exact_fields, exact_promised = without_clock(exact)
    assert told_fields == exact_fields
    # Never less than the peer was promised.
    assert isinstance(told_promised, int)
    assert isinstance(exact_promised, int)
    assert (told_promised - exact_promised) & 0xFFFFFFFF < 1 << 24
    # Never before the clock that the peer has seen; a few milliseconds pass between the two looks.
    assert -10 <= (exact.timestamp - told.timestamp + (1 << 31)) % (1 << 32) - (1 << 31) < 5000


def test_roles(service: Service) -> None:
    first, second, third = connect_all(service, 3)
    service.server.command(hold=True)
    first.shutdown(socket.SHUT_WR)
    second.close()
    third.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    third.close()  # with a reset
    with SocketCapture(service.server) as capture:
        roles = sorted(record.role for record in read_all(capture.capture()).values())
    assert roles == [UNCONNECTED, LISTENING, LISTENING, HALF_CLOSED, HALF_CLOSED]
    first.close()


def test_a_listening_socket_that_was_not_told_apart_from_its_backlog(service: Service) -> None:
    waiting = []
    service.server.command(hold=True)
    with SocketCapture(service.server) as capture:
        before = capture.capture()
        waiting = [service.lan.connect(str(ADDRESS4.ip), PORT) for _ in range(3)]
        after = capture.capture()
    assert before == after
    assert {record.backlog for record in read_all(after).values()} == {33}
    close_all(waiting)


def test_capturing_leaves_no_mark(service: Service) -> None:
    connections = connect_all(service, 4)
    before = service.server.options([])
    for _ in range(3):
        service.checkpoint()
        for connection in connections:
            ask(connection, b"still there")
    assert service.server.options([]) == before
    close_all(connections)
