"""Asking a program over TCP: connect, exchange, HTTP (RFC 9112). Each gives why there is no good answer, "" for one.

All of it is the event loop's: whoever does not answer keeps nobody waiting but the one who asked, who may cancel it.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cluster.health.check import Exchange, Http, Tcp

ANSWER_BYTES_MAX: Final = 4096
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_SHOWN_BYTES: Final = 60


async def connect(host: str, question: Tcp) -> str:
    """Whether it accepts a connection."""
    async with _connection(host, question.port):
        return ""


async def exchange(host: str, question: Exchange) -> str:
    """Whether it answers what is expected."""
    async with _connection(host, question.port) as connection:
        loop = asyncio.get_running_loop()
        if question.send:
            await loop.sock_sendall(connection, question.send)
        got = b""
        while len(got) < len(question.expect) and question.expect.startswith(got):
            more = await loop.sock_recv(connection, ANSWER_BYTES_MAX)
            if not more:
                return f"ends the connection after {_shown(got)}" if got else "ends the connection without an answer"
            got += more
        return "" if got.startswith(question.expect) else f"answers {_shown(got)}"


async def http(host: str, question: Http) -> str:
    """Whether it answers a GET with 2xx or 3xx."""
    async with _connection(host, question.port) as connection:
        loop = asyncio.get_running_loop()
        authority = f"[{host}]:{question.port}" if ":" in host else f"{host}:{question.port}"
        head = (
            f"GET {question.path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: kagemusha\r\nConnection: close\r\n\r\n"
        )
        await loop.sock_sendall(connection, head.encode())
        got = b""
        while b"\n" not in got and len(got) < ANSWER_BYTES_MAX:
            more = await loop.sock_recv(connection, ANSWER_BYTES_MAX)
            if not more:
                break
            got += more
        status = _STATUS_LINE.match(got)
        if status is None:
            return f"answers {_shown(got)}, which is no HTTP" if got else "ends the connection without an answer"
        code = int(status[1])
        return "" if 200 <= code < 400 else f"answers with status {code}"


@asynccontextmanager
async def _connection(host: str, port: int) -> AsyncIterator[socket.socket]:
    """A connection, closed at the end whatever happens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as connection:
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
        yield connection


def _shown(data: bytes) -> str:
    """The beginning of an answer, printable."""
    text = data[:_SHOWN_BYTES].decode("ascii", "backslashreplace")
    return repr(text + ("..." if len(data) > _SHOWN_BYTES else ""))
