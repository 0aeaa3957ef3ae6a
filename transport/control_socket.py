"""The asyncio adapters of the control socket: a Unix stream socket that only root and the agent's own user may use.

A frame's sequence number is the request's id, which the reply repeats; events have 0. The kernel says who the peer is
(SO_PEERCRED, unix(7)); the token of these frames is not used.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from transport.acceptor import Acceptor
from transport.control import CONTROL, ControlMessage, Event, Hello, Mirrored, Quit, Refused, Reply, Request
from transport.counters import Counters, Reason
from transport.errors import ControlError, FrameError, KagemushaError
from transport.frame import Frame, FrameDecoder, encode_frame

BACKLOG_BYTES_MAX: Final = 4 << 20
"""A client that leaves more than this unread is disconnected: it must not hold up the agent."""
CLIENTS_MAX: Final = 16
REQUESTS_MAX: Final = 32
"""Requests of one client that may be under way at once."""
EVENTS_MAX: Final = 1024
"""Events that a client may leave unread; its connection is closed beyond."""
CLOSE_S: Final = 1.0
READ_BYTES: Final = 1 << 16
_EVENT: Final = 0

Handler = Callable[[Request], Awaitable[Reply]]


def _peer_uid(connection: socket.socket) -> int:
    """Return the user id of the process that made the peer's end (SO_PEERCRED, socket(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    return int(struct.unpack("iII", credentials)[1])


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _encode(message: ControlMessage, number: int) -> bytes:
    kind, body = CONTROL.encode(message)
    return b"".join(encode_frame(kind, 0, number, body))


def _closed(path: Path) -> ControlError:
    return ControlError(f"{path}: the other side closed the connection")


class _Client:
    """One connection to a server."""

    def __init__(self, server: ControlServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._requests: set[asyncio.Task[None]] = set()

    def send(self, message: ControlMessage, number: int) -> None:
        if self._writer.transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
            self._writer.transport.abort()
        else:
            self._writer.write(_encode(message, number))

    async def run(self) -> None:
        decoder = FrameDecoder(CONTROL.limits, self._server.counters)
        try:
            while data := await self._reader.read(READ_BYTES):
                for frame in decoder.feed(data):
                    self._start(frame)
        except (OSError, FrameError):
            pass
        finally:
            # What was begun is finished, though nobody hears of it: half an Activate helps nobody.
            await self._close()

    async def _close(self) -> None:
        """End the connection; the last reply is delivered if the client takes it."""
        try:
            async with asyncio.timeout(CLOSE_S):
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    def _start(self, frame: Frame) -> None:
        message = self._request(frame)
        if len(self._requests) >= REQUESTS_MAX:
            self.send(Refused(f"more than {REQUESTS_MAX} requests at once", "wait for replies"), frame.sequence)
            return
        task = asyncio.create_task(self._handle(message, frame.sequence))
        self._requests.add(task)
        self._server.requests.add(task)
        task.add_done_callback(self._requests.discard)
        task.add_done_callback(self._server.ended)

    def _request(self, frame: Frame) -> Request:
        try:
            message = CONTROL.decode(frame.kind, frame.body)
            if not isinstance(message, Request) or frame.sequence == _EVENT:
                raise FrameError(f"{type(message).__name__} is no request")
        except FrameError:
            self._server.counters.count(Reason.MALFORMED)
            raise
        return message

    async def _handle(self, request: Request, number: int) -> None:
        try:
            reply = await self._server.handler(request)
        except KagemushaError as error:
            reply = Refused(error.what, error.hint)
        except Exception as error:
            self.send(Refused(f"{type(request).__name__}: the agent failed: {error!r}"[:1000], ""), number)
            raise
        self.send(reply, number)
        if isinstance(request, Quit):
            self._writer.close()


class ControlServer:
    """The agent's side. `handler` carries out each request; what it raises as KagemushaError becomes Refused.

    company: told how many clients are connected, whenever that has changed.
    Use as `async with ControlServer(path, handler, hello):`.
    """

    def __init__(self, path: Path, handler: Handler, hello: Callable[[], Hello]) -> None:
        self.path = path
        self.handler = handler
        self.counters = Counters()
        self.strangers = 0
        self.requests: set[asyncio.Task[None]] = set()
        self.company: Callable[[int], None] = lambda count: None
        self._hello = hello
        self._clients: set[_Client] = set()
        self._acceptor: Acceptor | None = None

    async def start(self) -> None:
        """Listen at `path`; a socket that nobody listens on any more is replaced.

        Raises ControlError when the path can't be used or another agent listens there.
        """
        if _is_listened_on(self.path):
            raise ControlError(f"{self.path}: another agent listens there", hint="stop it, or choose another directory")
        if self.path.exists() and not self.path.is_socket():
            raise ControlError(f"{self.path}: exists and is no socket")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self.path.unlink(missing_ok=True)
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            listener.listen(CLIENTS_MAX)
        except OSError as error:
            listener.close()
            hint = "a socket's path has at most 107 bytes" if len(str(self.path)) > 107 else ""
            raise ControlError(f"{self.path}: {error.strerror or error}", hint=hint) from None
        self._acceptor = Acceptor(listener, self._accept)

    def push(self, event: Event) -> None:
        """Send an event to every client. Never waits."""
        for client in self._clients:
            client.send(event, _EVENT)

    async def close(self) -> None:
        """Stop to listen, end what is under way, remove the socket. Raises what a handler died of."""
        if self._acceptor is None:
            return
        self.path.unlink(missing_ok=True)
        for task in self.requests:
            task.cancel()
        ended = await asyncio.gather(*self.requests, return_exceptions=True)
        await self._acceptor.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def __aenter__(self) -> ControlServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def ended(self, task: asyncio.Task[None]) -> None:
        """Forget a task, unless it died of a mistake: `close` raises that."""
        if task.cancelled() or task.exception() is None:
            self.requests.discard(task)

    async def _accept(self, connection: socket.socket) -> None:
        if not _is_trusted(_peer_uid(connection)) or len(self._clients) >= CLIENTS_MAX:
            self.strangers += 1
            connection.close()
            return
        client = _Client(self, *await asyncio.open_unix_connection(sock=connection))
        client.send(self._hello(), _EVENT)
        self._clients.add(client)
        self.company(len(self._clients))
        try:
            await client.run()
        finally:
            self._clients.discard(client)
            self.company(len(self._clients))


def _is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


class ControlClient:
    """The controller's side. One request may wait while others are answered."""

    def __init__(self, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._error: ControlError | None = None
        self._task = asyncio.create_task(self._read())

    @staticmethod
    async def connect(path: Path) -> ControlClient:
        """Connect to the agent at `path`. Its Hello is the first of `events`. Raises ControlError."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(path))
        except OSError as error:
            what = os.strerror(error.errno) if error.errno else str(error)
            raise ControlError(f"{path}: {what}", hint="is the agent running?") from None
        if not _is_trusted(_peer_uid(writer.get_extra_info("socket"))):
            writer.transport.abort()
            await writer.wait_closed()
            raise ControlError(f"{path}: belongs to another user")
        return ControlClient(path, reader, writer)

    async def request(self, message: Request) -> Reply:
        """Send a request and return its reply (never Refused: that is raised).

        Raises ControlError when it was refused, or when the connection ended before the reply: then it may have been
        carried out or not.
        """
        if self._error is not None:
            raise self._error
        self._number += 1
        number = self._number
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(_encode(message, number))
            await self._writer.drain()
            reply = await future
        except OSError:
            raise _closed(self._path) from None
        finally:
            del self._waiting[number]
        if isinstance(reply, Refused):
            raise ControlError(reply.what, hint=reply.hint)
        return reply

    async def events(self) -> AsyncIterator[Event]:
        """Yield events as they come, until the connection ends. Of Mirrored only the newest is kept."""
        while True:
            while self._events:
                yield self._events.pop(0)
            if self._error is not None:
                return
            self._news.clear()
            await self._news.wait()

    async def close(self) -> None:
        """End the connection; requests that wait get ControlError."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._end(_closed(self._path))
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    async def __aenter__(self) -> ControlClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self) -> None:
        decoder = FrameDecoder(CONTROL.limits, Counters())
        error = _closed(self._path)
        try:
            while data := await self._reader.read(READ_BYTES):
                for frame in decoder.feed(data):
                    self._take(frame)
        except OSError:
            pass
        except (FrameError, ControlError) as refused:
            error = ControlError(f"{self._path}: {refused.what}")
        self._end(error)

    def _end(self, error: ControlError) -> None:
        self._error = self._error or error
        self._writer.transport.abort()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._error)
        self._news.set()

    def _take(self, frame: Frame) -> None:
        message = CONTROL.decode(frame.kind, frame.body)
        if isinstance(message, Event) and frame.sequence == _EVENT:
            self._note(message)
        elif isinstance(message, Reply):
            future = self._waiting.get(frame.sequence)
            if future is not None and not future.done():
                future.set_result(message)
        else:
            raise FrameError(f"{type(message).__name__} is neither a reply nor an event")

    def _note(self, event: Event) -> None:
        if isinstance(event, Mirrored):
            # Only the newest state of each instance matters, so what nobody reads stays small.
            old = [e for e in self._events if isinstance(e, Mirrored) and e.instance == event.instance]
            for other in old:
                self._events.remove(other)
        if len(self._events) >= EVENTS_MAX:
            raise ControlError(f"more than {EVENTS_MAX} events were not read")
        self._events.append(event)
        self._news.set()
