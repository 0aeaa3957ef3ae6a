"""The session service of examples/: the sessions of one are those of the other, when it serves."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.structures import standstill
from agent.structures.locating import locate
from agent.structures.reception import Reception
from agent.structures.supply import Supply
from agent.structures.table import StructureTable
from agent.structures.update import Applied
from agent.tracing.program_event import Dying
from agent.tracing.prompt import Prompt
from tests.agent.structures.built import built, running, traced
from tests.agent.traced import STOP_S

SOURCE = str(Path(__file__).parents[3] / "examples" / "sessions" / "sessions.c")
TABLE = StructureTable(symbol="g_sessions", exclude=("g_sessions.entries.lock", "g_sessions.lock"))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Client:
    """Asks one line at a time. pump: called while it waits, for a program whose events this thread must handle."""

    def __init__(self, connection: socket.socket, pump: Callable[[], object]) -> None:
        self._connection, self._pump = connection, pump

    def ask(self, line: str) -> str:
        self._connection.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            if select.select([self._connection], [], [], 0.01)[0]:
                piece = self._connection.recv(4096)
                assert piece, "it has hung up"
                answer += piece
            self._pump()
        return answer.decode().strip()


@contextlib.contextmanager
def client(port: int, pump: Callable[[], object] = lambda: None) -> Iterator[Client]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield Client(connection, pump)


def test_a_session_goes_on_after_a_kill() -> None:
    ports = free_port(), free_port()
    first, second = built(SOURCE, "-g", "-O2"), built(SOURCE, "-g", "-O1")
    with traced(first, str(ports[0])) as program, running(second, str(ports[1])) as mirror:
        located, refused = locate([TABLE], program.pid)
        there, refused_there = locate([TABLE], mirror.pid)
        assert [*refused, *refused_there] == []
        stop = standstill.by_tracing(program.tracee, Prompt(None), STOP_S)
        supply = Supply(located, program.tracee, stop, interval_ms=50, token=1, told=refused.append)
        reception = Reception(there, standstill.none)
        assert [reception.compare(one) for one in supply.declarations] == [None]
        with client(ports[0], program.pump) as ann:
            for number in range(20):
                assert ann.ask(f"OPEN user{number}") == f"OK {number}"
            answers = [reception.apply(update) for update in supply.take(1.0)]
            assert [type(one) for one in answers] == [Applied]
            assert ann.ask("PUT 7 a value") == "OK 1"
            assert ann.ask("CLOSE 3") == "OK"
            [update] = supply.take(2.0)
            assert len(update.data) < 500
            reception.apply(update)
            assert ann.ask("PUT 8 the last word") == "OK 1"
            os.kill(program.pid, signal.SIGKILL)
            program.await_event(Dying)
            for update in supply.take_last():
                reception.apply(update)
        assert refused == []
        supply.close()
        reception.close()
        with client(ports[1]) as ann:
            assert ann.ask("COUNT") == "OK 19"
            assert ann.ask("GET 7") == "OK user7 1 a value"
            assert ann.ask("GET 8") == "OK user8 1 the last word"
            assert ann.ask("GET 3") == "NONE"
            assert ann.ask("OPEN bob") == "OK 3"
            # A lock that the killed one may have held is this one's own.
            assert ann.ask("PUT 7 another value") == "OK 2"
