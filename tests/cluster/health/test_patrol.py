"""Questions to real programs: answered, refused, and never answered."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from cluster.health import command
from cluster.health.check import Check, Exchange, Exec, Http, Question, Tcp
from cluster.health.patrol import Patrol, Target, ask

HERE = "127.0.0.1"
TARGET = Target("p", HERE, "10.0.0.9", 4711)
DEADLINE_S = 30.0


@asynccontextmanager
async def served(answer: bytes, *, silent: bool = False) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that reads something, answers this and closes. Gives its port, and what it read."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        if silent:
            await reader.read()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


def closed_port() -> int:
    """One that nobody listens on."""
    with closing(socket.create_server((HERE, 0))) as server:
        return int(server.getsockname()[1])


async def asked(question: Question) -> str:
    """What comes of one question."""
    async with asyncio.timeout(DEADLINE_S):
        return await ask(question, TARGET)


async def test_who_listens_can_be_connected_to_even_if_it_does_nothing() -> None:
    with closing(socket.create_server((HERE, 0))) as server:
        assert await asked(Tcp(server.getsockname()[1])) == ""
    assert await asked(Tcp(closed_port())) == "connection refused"


async def test_an_exchange_is_what_is_expected_or_not() -> None:
    async with served(b"+PONG\r\n") as (port, heard):
        assert await asked(Exchange(port, b"PING\r\n", b"+PONG")) == ""
        assert heard == [b"PING\r\n"]
    async with served(b"-LOADING\xff\n") as (port, _):
        assert await asked(Exchange(port, b"PING\r\n", b"+PONG")) == "answers '-LOADING\\\\xff\\n'"
    async with served(b"+PO") as (port, _):
        assert await asked(Exchange(port, b"PING\r\n", b"+PONG")) == "ends the connection after '+PO'"
    async with served(b"") as (port, _):
        assert await asked(Exchange(port, b"PING\r\n", b"+PONG")) == "ends the connection without an answer"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 302 Found\r\n\r\n", ""),
        (b"HTTP/1.1 204\r\n\r\n", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "answers with status 503"),
        (b"SSH-2.0-x\r\n", "answers 'SSH-2.0-x\\r\\n', which is no HTTP"),
        (b"", "ends the connection without an answer"),
    ],
)
async def test_http_is_well_with_2xx_and_3xx(answer: bytes, reason: str) -> None:
    async with served(answer) as (port, heard):
        assert await asked(Http(port, "/ready?deep=1")) == reason
        assert heard[0].startswith(f"GET /ready?deep=1 HTTP/1.1\r\nHost: {HERE}:{port}\r\n".encode())


async def test_a_command_is_well_with_0_and_else_says_its_last_words() -> None:
    assert await asked(Exec(("/bin/true",))) == ""
    assert await asked(Exec(("/bin/false",))) == "ends with status 1"
    assert await asked(Exec(("/bin/sh", "-c", "echo nothing here; exit 3"))) == "ends with status 3: nothing here"
    assert await asked(Exec(("/bin/sh", "-c", "kill -9 $$"))) == "ends with signal 9"
    assert await asked(Exec(("/nowhere/to/be/found",))) == "can't be started: No such file or directory"


async def test_a_command_knows_whom_it_is_about_and_nothing_else() -> None:
    script = 'echo "$KAGEMUSHA_PROGRAM $KAGEMUSHA_ADDRESS $KAGEMUSHA_PID $HOME"; exit 1'
    assert await asked(Exec(("/bin/sh", "-c", script))) == "ends with status 1: p 10.0.0.9 4711"


async def test_a_command_that_writes_without_end_is_not_held_up() -> None:
    script = "import sys; sys.stdout.write('x' * (1 << 22)); sys.exit(4)"
    assert (await asked(Exec((sys.executable, "-c", script)))).startswith("ends with status 4: xxx")


async def test_root_starts_nothing_that_others_can_write(tmp_path: Path) -> None:
    script = tmp_path / "check"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o777)
    assert await asked(Exec((str(script),))) == "is not started: others than root can write it"
    script.chmod(0o755)
    assert await asked(Exec((str(script),))) == ""


async def test_a_file_system_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "hangs"
    os.mkfifo(path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask(Exec((str(path),)), TARGET)
    assert await asked(Exec((str(path),))) == "its file system does not answer"
    with path.open("wb"):
        pass
    while str(path) in command._looking:
        await asyncio.sleep(0.005)


async def test_a_command_that_never_ends_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait; sleep 1000"
    job = asyncio.create_task(ask(Exec(("/bin/sh", "-c", script)), TARGET))
    async with asyncio.timeout(DEADLINE_S):
        while not pids.exists():
            await asyncio.sleep(0.005)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        for pid in map(int, pids.read_text().split()):
            while _lives(pid):
                await asyncio.sleep(0.005)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


class Watched:
    """A patrol with one check, whose verdicts can be awaited."""

    def __init__(self, question: Question, **times: float) -> None:
        check = Check(question, times.get("interval_s", 0.05), times.get("timeout_s", 0.04), 1, 2, 0.0)
        self.still = False
        self.news = asyncio.Event()
        self.patrol = Patrol(TARGET, [check], lambda: self.still, self.news.set, anew=False)

    async def until(self, is_so: Callable[[str], bool]) -> str:
        """Wait for a verdict like this."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_so(self.patrol.reason):
                await self.news.wait()
                self.news.clear()
        return self.patrol.reason


async def test_a_program_that_stops_to_answer_is_told_of_and_so_is_its_return() -> None:
    async with served(b"", silent=True) as (port, _):
        watched = Watched(Exchange(port, b"PING\r\n", b"+PONG"))
        reason = await watched.until(bool)
        assert reason == f"exchange {port}: no answer within 40 ms, 2 times in a row"
        watched.patrol.close()
    async with served(b"+PONG") as (port, _):
        watched = Watched(Exchange(port, b"PING\r\n", b"+PONG"), timeout_s=0.049)
        watched.patrol._verdict.reason = "it was unwell"
        await watched.until(lambda reason: not reason)
        watched.patrol.close()


async def test_a_check_that_never_ends_keeps_no_other_waiting(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    endless = Check(Exec(("/bin/sleep", "1000")), 0.2, 0.15, 1, 10**6, 0.0)
    brief = Check(Exec(("/bin/sh", "-c", f"echo >> {marks}")), 0.2, 0.19, 1, 10**6, 0.0)
    patrol = Patrol(TARGET, [endless, brief], lambda: False, lambda: None, anew=False)
    async with asyncio.timeout(DEADLINE_S):
        while not marks.exists() or marks.stat().st_size < 3:
            await asyncio.sleep(0.01)
    patrol.close()


async def test_nobody_is_asked_while_the_program_is_kept_still() -> None:
    async with served(b"no", silent=False) as (port, heard):
        watched = Watched(Exchange(port, b"PING\r\n", b"+PONG"))
        watched.still = True
        watched.patrol.look()
        asked_before = len(heard)
        await asyncio.sleep(0.2)
        assert len(heard) == asked_before
        assert not watched.patrol.reason
        watched.still = False
        watched.patrol.look()
        assert "answers 'no'" in await watched.until(bool)
        watched.patrol.close()
