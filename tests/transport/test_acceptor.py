"""An acceptor serves, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket

import pytest

from transport.acceptor import Acceptor


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


async def test_every_connection_is_served() -> None:
    async def serve(connection: socket.socket) -> None:
        with connection:
            await asyncio.get_running_loop().sock_sendall(connection, b"hello")

    listener = _listener()
    acceptor = Acceptor(listener, serve)
    for _ in range(3):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
    await acceptor.close()


async def test_closing_ends_what_is_served_and_what_is_not_served_yet() -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    async def serve(connection: socket.socket) -> None:
        with connection:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cleaned up")

    listener = _listener()
    acceptor = Acceptor(listener, serve)
    first, first_writer = await asyncio.open_connection(*listener.getsockname())
    await begun.wait()
    second, second_writer = await asyncio.open_connection(*listener.getsockname())
    await acceptor.close()
    assert ended[0] == "cleaned up"
    for reader, writer in ((first, first_writer), (second, second_writer)):
        try:
            assert await reader.read() == b""
        except ConnectionError:
            pass
        writer.transport.abort()
    assert listener.fileno() == -1


async def test_a_mistake_is_raised_when_it_is_closed_and_does_not_stop_others() -> None:
    served = asyncio.Queue[int]()

    async def serve(connection: socket.socket) -> None:
        connection.close()
        served.put_nowait(1)
        raise ZeroDivisionError

    listener = _listener()
    acceptor = Acceptor(listener, serve)
    for _ in range(2):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        await served.get()
        writer.transport.abort()
    with pytest.raises(ZeroDivisionError):
        await acceptor.close()
