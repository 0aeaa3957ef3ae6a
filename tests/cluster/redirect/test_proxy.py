"""A proxy that leads to whoever serves; its connections end with the instance that they led to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.redirect.driver import RedirectError, StaleToken
from cluster.redirect.proxy import ProxyDriver

DEADLINE_S = 20.0
LISTEN, FORWARD = "127.0.0.1:27391", "127.0.0.1:27392"
HOST, PORT, OWN_PORT = "127.0.0.1", 27391, 27392


@asynccontextmanager
async def instance(name: bytes) -> AsyncIterator[asyncio.Server]:
    """A program that says its name, then what it hears, until the client has said all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name + b"\n")
        while heard := await reader.read(1 << 16):
            writer.write(heard)
            await writer.drain()
        writer.write(b"end\n")
        writer.close()

    server = await asyncio.start_server(serve, HOST, OWN_PORT)
    try:
        yield server
    finally:
        server.close()


async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client."""
    return await asyncio.open_connection(HOST, PORT)


async def test_new_connections_lead_to_the_new_one_and_old_ones_end() -> None:
    async with asyncio.timeout(DEADLINE_S):
        old, new = ProxyDriver("redis", LISTEN, FORWARD), ProxyDriver("redis", LISTEN, FORWARD)
        async with instance(b"old"):
            assert not await old.holds()
            await old.claim(1)
            await old.claim(1)
            assert await old.holds()
            reader, writer = await connect()
            assert await reader.readline() == b"old\n"
            content = bytes(range(256)) * 4096
            writer.write(content)
            assert await reader.readexactly(len(content)) == content

            # Whoever comes while the old one still listens is refused, and says so.
            with pytest.raises(RedirectError, match=f"can't listen at {LISTEN}: Address already in use") as refused:
                await new.claim(2)
            assert "ss -ltnp" in refused.value.hint
            await old.release(1)
            await old.release(1)
            assert not await old.holds()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await connect()
        async with instance(b"new"):
            await new.claim(2)
            reader, writer = await connect()
            assert await reader.readline() == b"new\n"
            with pytest.raises(StaleToken):
                await new.claim(1)
            # One side may have said all, and hears the rest.
            writer.write_eof()
            assert await reader.read() == b"end\n"
            writer.close()
            # A later claim here is of another instance: what led to the one before ends.
            reader, writer = await connect()
            assert await reader.readline() == b"new\n"
            await new.claim(4)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        await new.close()
        await old.close()


async def test_a_program_that_does_not_listen_yet() -> None:
    async with asyncio.timeout(DEADLINE_S):
        driver = ProxyDriver("redis", LISTEN, FORWARD)
        await driver.claim(1)
        reader, writer = await connect()
        async with instance(b"late"):
            assert await reader.readline() == b"late\n"
        writer.close()
        await driver.close()
