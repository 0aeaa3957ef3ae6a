"""The control socket over a real Unix socket: requests, events, who is let in, and what is refused."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from transport import control_socket
from transport.checkpoint import Version
from transport.control import (
    CONTROL,
    Failed,
    GetStatus,
    Hello,
    Launch,
    Mirrored,
    Ok,
    Quit,
    Reply,
    Request,
    Terminate,
)
from transport.control_socket import EVENTS_MAX, REQUESTS_MAX, ControlClient, ControlServer
from transport.errors import ConfigError, ControlError
from transport.frame import encode_frame

HELLO = Hello("redis", "redis@a", 1, 99, 7000)


async def _ok(request: Request) -> Reply:
    return Ok()


@asynccontextmanager
async def _both(
    path: Path, handler: control_socket.Handler = _ok
) -> AsyncIterator[tuple[ControlServer, ControlClient]]:
    async with asyncio.timeout(20), ControlServer(path / "agent", handler, lambda: HELLO) as server:
        async with await ControlClient.connect(path / "agent") as client:
            yield server, client


async def test_a_request_is_answered(tmp_path: Path) -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Reply:
        seen.append(request)
        return Ok()

    async with _both(tmp_path, handler) as (_, client):
        assert await client.request(Launch(7)) == Ok()
    assert seen == [Launch(7)]


async def test_replies_may_come_in_another_order(tmp_path: Path) -> None:
    status, launch = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Reply:
        if isinstance(request, Launch):
            launch.set()
            await status.wait()
        return Ok()

    async with _both(tmp_path, handler) as (_, client):
        slow = asyncio.create_task(client.request(Launch(1)))
        await launch.wait()
        assert await client.request(GetStatus()) == Ok()
        assert not slow.done()
        status.set()
        assert await slow == Ok()


async def test_a_refusal_is_raised_with_its_hint(tmp_path: Path) -> None:
    async def handler(request: Request) -> Reply:
        raise ConfigError("the file is missing", hint="write it")

    async with _both(tmp_path, handler) as (_, client):
        with pytest.raises(ControlError, match="the file is missing") as error:
            await client.request(Launch(1))
        assert error.value.hint == "write it"


async def test_a_mistake_in_the_handler_is_told_and_raised_at_the_end(tmp_path: Path) -> None:
    async def handler(request: Request) -> Reply:
        raise ZeroDivisionError

    server = ControlServer(tmp_path / "agent", handler, lambda: HELLO)
    await server.start()
    async with await ControlClient.connect(tmp_path / "agent") as client:
        with pytest.raises(ControlError, match="Launch: the agent failed"):
            await client.request(Launch(1))
    with pytest.raises(ZeroDivisionError):
        await server.close()


async def test_hello_comes_first_and_then_events(tmp_path: Path) -> None:
    async with _both(tmp_path) as (server, client):
        events = client.events()
        assert await anext(events) == HELLO
        server.push(Failed("a", ""))
        server.push(Failed("b", ""))
        assert [await anext(events), await anext(events)] == [Failed("a", ""), Failed("b", "")]


async def test_every_client_gets_events(tmp_path: Path) -> None:
    async with _both(tmp_path) as (server, one), await ControlClient.connect(tmp_path / "agent") as two:
        streams = [client.events() for client in (one, two)]
        assert [await anext(events) for events in streams] == [HELLO, HELLO]
        server.push(Failed("a", ""))
        assert [await anext(events) for events in streams] == [Failed("a", "")] * 2


async def test_of_a_state_only_the_newest_is_kept(tmp_path: Path) -> None:
    async with _both(tmp_path) as (server, client):
        assert await client.request(GetStatus()) == Ok()
        for number in range(EVENTS_MAX + 10):
            server.push(Mirrored("redis@b", 1, Version(1, number, 5)))
            server.push(Mirrored("redis@c", 1, Version(1, number, 6)))
        assert await client.request(GetStatus()) == Ok()
        server.push(Failed("end", ""))
        received = []
        async for event in client.events():
            received.append(event)
            if isinstance(event, Failed):
                break
        last = EVENTS_MAX + 9
        assert received[1:3] == [
            Mirrored("redis@b", 1, Version(1, last, 5)),
            Mirrored("redis@c", 1, Version(1, last, 6)),
        ]


async def test_too_many_unread_events_end_the_connection(tmp_path: Path) -> None:
    async with _both(tmp_path) as (server, client):
        assert await client.request(GetStatus()) == Ok()
        for number in range(EVENTS_MAX + 1):
            server.push(Failed(str(number), ""))
        with pytest.raises(ControlError, match="were not read"):
            await client.request(GetStatus())
        assert len([event async for event in client.events()]) == EVENTS_MAX


async def test_quit_is_answered_and_ends_the_connection(tmp_path: Path) -> None:
    async with _both(tmp_path) as (_, client):
        assert await client.request(Quit()) == Ok()
        assert [event async for event in client.events()] == [HELLO]
        with pytest.raises(ControlError, match="closed the connection"):
            await client.request(GetStatus())


async def test_the_reply_to_quit_comes_even_if_the_server_closes_at_once(tmp_path: Path) -> None:
    quitting = asyncio.Event()

    async def handler(request: Request) -> Reply:
        quitting.set()
        return Ok()

    server = ControlServer(tmp_path / "agent", handler, lambda: HELLO)
    await server.start()
    async with await ControlClient.connect(tmp_path / "agent") as client:
        reply = asyncio.create_task(client.request(Quit()))
        await quitting.wait()
        await server.close()
        assert await reply == Ok()
    assert not (tmp_path / "agent").exists()


async def test_a_request_whose_agent_ends_is_neither_done_nor_undone(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def handler(request: Request) -> Reply:
        begun.set()
        await asyncio.Event().wait()
        return Ok()

    server = ControlServer(tmp_path / "agent", handler, lambda: HELLO)
    await server.start()
    async with await ControlClient.connect(tmp_path / "agent") as client:
        waiting = asyncio.create_task(client.request(Launch(1)))
        await begun.wait()
        await server.close()
        with pytest.raises(ControlError, match="closed the connection"):
            await waiting


async def test_requests_at_once_are_bounded(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def handler(request: Request) -> Reply:
        await go.wait()
        return Ok()

    async with _both(tmp_path, handler) as (_, client):
        tasks = [asyncio.create_task(client.request(Terminate(1))) for _ in range(REQUESTS_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(ControlError, match="requests at once"):
            await client.request(GetStatus())
        go.set()
        assert await asyncio.gather(*tasks) == [Ok()] * REQUESTS_MAX


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 4,
        b"".join(encode_frame(99, 0, 1, b"\x80")),
        b"".join(encode_frame(1, 0, 1, b"\x80")),
        b"".join(encode_frame(64, 0, 1, b"\x80")),  # a reply is no request
        b"".join(encode_frame(9, 0, 0, b"\x80")),  # a request without an id
    ],
)
async def test_bad_bytes_are_counted_and_end_the_connection(tmp_path: Path, raw: bytes) -> None:
    async with _both(tmp_path) as (server, client):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "agent"))
        writer.write(raw)
        hello = await reader.read()
        assert CONTROL.encode(HELLO)[1] in hello
        writer.transport.abort()
        await writer.wait_closed()
        assert server.counters.total == 1
        assert await client.request(GetStatus()) == Ok()


async def test_a_client_that_reads_nothing_is_disconnected(tmp_path: Path) -> None:
    async with _both(tmp_path) as (server, _):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "agent"))
        await reader.readexactly(36)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        while len(server._clients) == 2:
            server.push(Failed("x" * 100_000, ""))
            await asyncio.sleep(0)
        writer.transport.abort()
        await writer.wait_closed()


async def test_only_its_owner_can_reach_the_socket_and_others_are_refused() -> None:
    with tempfile.TemporaryDirectory(prefix=f"kgm-{os.getpid()}-") as name:
        path = Path(name) / "agent"
        async with _both(Path(name)) as (server, _):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.chmod(0o666)
            path.parent.chmod(0o755)
            _, status = await asyncio.to_thread(os.waitpid, _first_byte_as_nobody(str(path)), 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert server.strangers == 1


def _first_byte_as_nobody(path: str) -> int:
    """Start a process of another user that exits with 0 if the server ends the connection without a word."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            status = len(connection.recv(1))
    finally:
        os._exit(status)


async def test_a_client_does_not_trust_another_user_s_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ControlServer(tmp_path / "agent", _ok, lambda: HELLO):
        monkeypatch.setattr(control_socket, "_peer_uid", lambda _: 12345)
        with pytest.raises(ControlError, match="belongs to another user"):
            await ControlClient.connect(tmp_path / "agent")


async def test_a_dead_agent_s_socket_is_replaced_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "agent"))
    async with _both(tmp_path):
        with pytest.raises(ControlError, match="another agent listens there"):
            await ControlServer(tmp_path / "agent", _ok, lambda: HELLO).start()
        assert (tmp_path / "agent").exists()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: path / "missing" / "agent", "No such file or directory"),
        (lambda path: path / ("x" * 200), "too long"),
    ],
)
async def test_a_path_that_can_t_be_used_is_one_line(tmp_path: Path, make: Callable[[Path], Path], line: str) -> None:
    with pytest.raises(ControlError, match=line):
        await ControlServer(make(tmp_path), _ok, lambda: HELLO).start()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("precious")
    with pytest.raises(ControlError, match="is no socket"):
        await ControlServer(tmp_path / "agent", _ok, lambda: HELLO).start()
    assert (tmp_path / "agent").read_text() == "precious"


async def test_no_agent_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="No such file") as error:
        await ControlClient.connect(tmp_path / "agent")
    assert error.value.hint == "is the agent running?"
