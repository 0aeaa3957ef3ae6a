"""`proxy`: clients connect to an endpoint of the node that serves, which passes everything on to the program.

For several nodes on one machine, where there is no address to move: the endpoint is the same, and whoever serves has
it. A connection does not outlive its instance: the program's side is of a process that is gone.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from typing import Final

import structlog

from cluster.config import host_and_port
from cluster.redirect.driver import RedirectError, Tokens

log = structlog.get_logger()

CHUNK_BYTES: Final = 1 << 16
CONNECT_S: Final = 2.0
AGAIN_S: Final = 0.01
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class ProxyDriver:
    """See `driver.Driver`. listen, forward: endpoints. Connections are passed on by this process's event loop."""

    def __init__(self, program: str, listen: str, forward: str) -> None:
        self._program = program
        self._listen = listen
        self._forward = forward
        self._tokens = Tokens(program)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def claim(self, token: int) -> None:
        """See `driver.Driver`."""
        newer = token > self._tokens.newest
        self._tokens.accept(token)
        if newer:
            await self._end()
        if self._server is None:
            host, port = host_and_port(self._listen)
            try:
                self._server = await asyncio.start_server(self._serve, host, port, backlog=1024)
            except OSError as error:
                what = f"{self._program}: can't listen at {self._listen}: {os.strerror(error.errno or 0)}"
                hint = f"who has it: ss -ltnp 'sport = :{port}'" if error.errno == errno.EADDRINUSE else ""
                raise RedirectError(what, hint=hint) from None

    async def release(self, token: int) -> None:
        """See `driver.Driver`."""
        self._tokens.accept(token)
        await self._end()

    async def holds(self) -> bool:
        """See `driver.Driver`."""
        return self._server is not None and self._server.is_serving()

    async def close(self) -> None:
        """End all connections: nobody would pass anything on."""
        await self._end()

    async def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._server is None:
            _reset(writer)
            return
        self._connections.add(task)
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            _reset(writer)
        except (OSError, TimeoutError) as error:
            log.info("a connection is not passed on", program=self._program, reason=str(error) or "no answer")
            _reset(writer)
        finally:
            self._connections.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await self._connect()
        try:
            for one in (writer, far_writer):
                one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(_copy(far_reader, writer))
        except BaseExceptionGroup as group:
            raise OSError(str(group.exceptions[0])) from None
        finally:
            far_writer.transport.abort()
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The program's own endpoint. A program that has just been started may not listen yet."""
        host, port = host_and_port(self._forward)
        async with asyncio.timeout(CONNECT_S):
            while True:
                try:
                    return await asyncio.open_connection(host, port)
                except ConnectionRefusedError:
                    await asyncio.sleep(AGAIN_S)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with an error: an orderly end would say that all was said."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
